// Package suite drives a real gateway with centrifuge-go. It is a module of its own, so that
// sluice does not depend on that; ../run starts it. There are only tests in it.
package suite

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sluice/bench/child"
)

var (
	secret     = rand.Text() + rand.Text()
	secretFile string
	shared     *node // of all tests that do not restart it
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	directory, err := os.MkdirTemp("", "sluice-centrifugo-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(directory)
	secretFile = filepath.Join(directory, "secret")
	if err := os.WriteFile(secretFile, []byte(secret), 0o600); err != nil {
		panic(err)
	}
	shared = &node{flags: []string{"--ping-interval", "1s", "--pong-timeout", "1s"}}
	if err := shared.start(); err != nil {
		panic(err)
	}
	code = m.Run()
	if err := shared.Stop(); err != nil || code != 0 {
		os.Stderr.WriteString(shared.Log.String())
		return max(code, 1)
	}
	return code
}

// node is a gateway with tokens and namespaces, on ports that it keeps when it is
// restarted.
type node struct {
	*child.Process // nil before it has started
	flags          []string
	alone          bool // with these flags alone
}

// newNode starts one that ends with the test.
func newNode(t *testing.T, flags ...string) *node {
	t.Helper()
	return begin(t, &node{flags: flags})
}

// begin starts one that ends with the test.
func begin(t *testing.T, n *node) *node {
	t.Helper()
	if err := n.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(&n.Log)
		}
	})
	return n
}

func (n *node) start() (err error) {
	flags := []string{"--token-hmac-secret-file", secretFile, "--namespaces", "../namespaces.json"}
	if n.alone {
		flags = nil
	}
	if n.Process != nil {
		flags = append(flags, "--listen", n.Public, "--internal-listen", n.Internal)
	}
	n.Process, err = child.Serve(os.Getenv("SLUICE_BIN"), append(flags, n.flags...)...)
	return err
}

func (n *node) client() string { return "ws://" + n.Public + "/connection/websocket" }

// api asks the server's API and reads its result.
func (n *node) api(t *testing.T, method string, request map[string]any, result any) {
	t.Helper()
	body, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := n.Post("/api/"+method, "application/json", string(body))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Result json.RawMessage `json:"result"`
		Error  json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(answer, &got); err != nil || got.Error != nil {
		t.Fatalf("%s: %v, %s", method, err, got.Error)
	}
	if result != nil {
		if err := json.Unmarshal(got.Result, result); err != nil {
			t.Fatal(err)
		}
	}
}

// publish publishes the numbers from one to another.
func (n *node) publish(t *testing.T, channel string, from, to int) {
	t.Helper()
	for i := from; i <= to; i++ {
		n.api(t, "publish", map[string]any{"channel": channel, "data": i}, nil)
	}
}

type claims map[string]any

// token makes one of HS256 that lasts for an hour, or ttl seconds. Because its times are whole
// seconds, less than 2 may be none.
func token(user string, more claims) string { return signed(secret, user, more) }

func signed(key, user string, more claims) string {
	all := claims{"sub": user, "exp": time.Now().Add(time.Hour).Unix()}
	for name, value := range more {
		if name == "ttl" {
			name, value = "exp", time.Now().Unix()+int64(value.(int))
		}
		all[name] = value
	}
	body, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256"}`)) + "." + base64.RawURLEncoding.EncodeToString(body)
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// wire passes bytes through to an address until it is cut.
type wire struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	isCut bool
	conns []net.Conn
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: l, to: to}
	go w.accept()
	t.Cleanup(func() { l.Close(); w.cut() })
	return w
}

func (w *wire) accept() {
	for {
		client, err := w.listener.Accept()
		if err != nil {
			return // closed
		}
		w.mu.Lock()
		server, err := net.Dial("tcp", w.to)
		if err != nil || w.isCut {
			client.Close()
			if err == nil {
				server.Close()
			}
			w.mu.Unlock()
			continue
		}
		w.conns = append(w.conns, client, server)
		w.mu.Unlock()
		for _, pair := range [][2]net.Conn{{client, server}, {server, client}} {
			go func() {
				io.Copy(pair[0], pair[1]) // ignored: both ends are closed whatever it is
				pair[0].Close()
				pair[1].Close()
			}()
		}
	}
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCut = true
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCut = false
}

func (w *wire) client() string { return "ws://" + w.listener.Addr().String() + "/connection/websocket" }
