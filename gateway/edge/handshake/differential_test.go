package handshake

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/route"
)

// reference is a server of net/http that answers an upgrade by the letter of RFC 6455
// section 4.2.1. What it refuses, this package has to refuse.
type reference struct{ conns chan net.Conn }

func newReference(t testing.TB) *reference {
	ref := &reference{make(chan net.Conn)}
	server := &http.Server{
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
			req.Context().Value(tapeKey{}).(*tape).see(req)
			panic(http.ErrAbortHandler) // else the server waits where a body was not read
		}),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, tapeKey{}, c) },
		ErrorLog:    log.New(io.Discard, "", 0),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(ref) // ignored: it ends when the test closes it
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return ref
}

func (r *reference) Accept() (net.Conn, error) {
	c, ok := <-r.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (r *reference) Close() error { // http.Server calls it once
	close(r.conns)
	return nil
}

func (r *reference) Addr() net.Addr { return &net.TCPAddr{} }

// judge tells what the server makes of the first request of a connection that carries b:
// whether it was handed to a handler, and whether it may be answered with a 101. As from
// the gateway it does not get an empty line before the request.
func (r *reference) judge(b []byte) (parsed, upgrade bool) {
	t := &tape{rest: bytes.NewReader(b[EmptyLine(b):]), closed: make(chan struct{})}
	r.conns <- t
	<-t.closed
	t.mu.Lock()
	defer t.mu.Unlock()
	// An expectation that net/http does not know it answers with 417. It speaks of a
	// body, of which an upgrade has none, and is no matter of how the head is read.
	return t.parsed || bytes.HasPrefix(t.answer, []byte("HTTP/1.1 417 ")), t.upgrade
}

type tapeKey struct{}

// tape is a connection whose client has sent everything and gone.
type tape struct {
	rest   *bytes.Reader
	once   sync.Once
	closed chan struct{}

	mu              sync.Mutex // guards the others
	answer          []byte
	parsed, upgrade bool
}

// see judges the first request.
func (t *tape) see(req *http.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.parsed {
		t.parsed, t.upgrade = true, strictUpgrade(req)
	}
}

func (t *tape) Read(p []byte) (int, error) { return t.rest.Read(p) }

func (t *tape) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answer = append(t.answer, p...)
	return len(p), nil
}

func (t *tape) Close() error {
	t.once.Do(func() { close(t.closed) })
	return nil
}

func (t *tape) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (t *tape) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (t *tape) SetDeadline(time.Time) error      { return nil }
func (t *tape) SetReadDeadline(time.Time) error  { return nil }
func (t *tape) SetWriteDeadline(time.Time) error { return nil }

// strictUpgrade is RFC 6455 section 4.2.1 over what net/http has read.
func strictUpgrade(req *http.Request) bool {
	names := func(field, token string) bool {
		return slices.ContainsFunc(strings.Split(strings.Join(req.Header[field], ","), ","), func(s string) bool {
			return strings.EqualFold(strings.Trim(s, " \t"), token)
		})
	}
	key := req.Header["Sec-Websocket-Key"]
	if len(key) != 1 {
		return false
	}
	nonce, err := base64.StdEncoding.DecodeString(key[0])
	body, bodyErr := io.Copy(io.Discard, req.Body)
	return req.Method == "GET" && req.ProtoAtLeast(1, 1) && req.Host != "" && (strings.HasPrefix(req.RequestURI, "/") || req.URL.Host != "") &&
		names("Upgrade", "websocket") && names("Connection", "upgrade") && err == nil && len(nonce) == 16 && len(key[0]) == 24 &&
		slices.Equal(req.Header["Sec-Websocket-Version"], []string{"13"}) &&
		req.ContentLength == 0 && len(req.TransferEncoding) == 0 && body == 0 && bodyErr == nil && len(req.Header["Origin"]) <= 1
}

// corpusMin is how many malformed handshakes there have to be.
const corpusMin = 300

func TestCorpusEndsAsItSaysAndNetHTTPIsNeverStricter(t *testing.T) {
	ref := newReference(t)
	seen := map[string]bool{"upgrader": true} // nothing can show it
	malformed, taken, stricter := 0, 0, 0
	for _, d := range corpus(t) {
		seen[d.reason] = true
		parsed, upgrade := ref.judge([]byte(d.head))
		req, reject := serve([]byte(d.head))
		if d.status == http.StatusSwitchingProtocols {
			if taken++; reject != nil || !req.Upgrade {
				t.Errorf("%s: refused: %v", d.name, reject)
			}
		} else {
			if malformed++; reject == nil {
				t.Errorf("%s: accepted", d.name)
			} else if reject.Status != d.status || reject.Reason.String() != d.reason {
				t.Errorf("%s: got %d %s, want %d %s", d.name, reject.Status, reject.Reason, d.status, d.reason)
			}
			if upgrade {
				stricter++
			}
		}
		if reject == nil && (!parsed || req.Upgrade && !upgrade) {
			t.Errorf("%s: accepted, but net/http refuses it", d.name)
		}
	}
	for _, reason := range route.Outcomes() {
		if !seen[reason.String()] && reason != route.BadQuery.Reason { // protocols read the query
			t.Errorf("no request shows the reason %s", reason)
		}
	}
	if malformed < corpusMin {
		t.Errorf("%d malformed handshakes, want at least %d", malformed, corpusMin)
	}
	t.Logf("%d malformed, of which net/http and RFC 6455 would take %d; %d good", malformed, stricter, taken)
}

// The reference can refuse, and can accept.
func TestReferenceJudges(t *testing.T) {
	ref := newReference(t)
	for head, want := range map[string][2]bool{
		good: {true, true}, plain: {true, false}, chrome: {true, true}, "GET / HTTP/1.1\r\n\r\n": {false, false}, "": {false, false},
		swap(t, good, ": 13", ": 12"): {true, false}, swap(t, good, "Key: ", "Key: A"): {true, false}, withFields(good, "Expect: x\r\n"): {true, false},
	} {
		if parsed, upgrade := ref.judge([]byte(head)); [2]bool{parsed, upgrade} != want {
			t.Errorf("%q: got %v, %v; want %v", head, parsed, upgrade, want)
		}
	}
}

// However bytes are changed: what this package takes, net/http's server takes, as what
// it is; an upgrade that is taken gets its 101; and it does not take long.
func FuzzHandshakeDifferential(f *testing.F) {
	for _, d := range corpus(f) {
		if len(d.head) <= 2*HeadBytesMax {
			f.Add([]byte(d.head))
		}
	}
	ref := newReference(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		begin := time.Now()
		req, reject := serve(b)
		if took := time.Since(begin); took > 10*time.Second {
			t.Fatalf("%q: took %v", b, took)
		}
		if reject == rejectUpgrader {
			t.Fatalf("%q: Parse accepts it, the upgrader does not", b)
		}
		if reject != nil {
			return
		}
		if parsed, upgrade := ref.judge(b); !parsed || req.Upgrade && !upgrade {
			t.Fatalf("%q: accepted as %+v; net/http: parsed %v, upgrade %v", b, req, parsed, upgrade)
		}
	})
}
