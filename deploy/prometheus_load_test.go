package deploy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"sluice/bench/child"
)

// load is a gateway with clients of every kind, until the test ends: whatever the gateway counts,
// they make it happen.
type load struct {
	t       *testing.T
	g       *child.Process
	keyFile string
	pool    *x509.CertPool

	mu     sync.Mutex
	failed map[string]error // the last error, by part
}

const loadKey = "key-of-the-internal-listener"

func startLoad(t *testing.T) *load {
	t.Helper()
	const options = `"allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true, "allow_publish_for_client": true, "allow_publish_for_anonymous": true,
		"allow_raw_publish": true, "history_size": 20, "history_ttl": "300s", "allow_recovery": true`
	dir, pool := certificateFiles(t)
	l := &load{t: t, pool: pool, failed: map[string]error{}, keyFile: write(t, "key", loadKey)}
	l.g = serve(t, "--api-key-file", l.keyFile, "--tls-listen", "127.0.0.1:0", "--tls-cert", dir+"/cert", "--tls-key", dir+"/key",
		"--namespaces", write(t, "channels.json", `{"without_namespace": {"durable": false, `+options+`}, "namespaces": [{"name": "chat", `+options+`}, {"name": "asked", "subscribe_proxy_enabled": true}]}`),
		"--subscribe-hook", application(t), "--webhook", application(t), "--webhook-events", "occupied,vacated,connected", "--webhook-digest", "1s",
		"--token-hmac-secret-file", write(t, "secret", strings.Repeat("secret", 10)),
		"--slow-policy", "skip*=skip", "--channel-buffer", "128KiB", "--max-message", "32KiB", "--send-buffer", "8KiB", "--ping-interval", "1s", "--memory-limit", "1GiB", "--data-dir", t.TempDir())
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	for name, part := range map[string]func(context.Context) error{
		"publisher":          l.publish,
		"raw client":         l.raw,
		"SSE client":         l.stream,
		"Centrifugo client":  l.centrifugo,
		"slow client":        func(ctx context.Context) error { return l.slow(ctx, "slow") },
		"slow client, skips": func(ctx context.Context) error { return l.slow(ctx, "skip") },
		"TLS client":         l.secure,
		"refused client":     l.refused,
		"client of a hook":   l.asked,
	} {
		parts.Go(func() {
			for ctx.Err() == nil {
				if err := part(ctx); err != nil && ctx.Err() == nil {
					l.mu.Lock()
					l.failed[name] = err
					l.mu.Unlock()
				}
				pause(ctx, 100*time.Millisecond)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		parts.Wait()
	})
	return l
}

// report logs what went wrong, for a test that has failed.
func (l *load) report() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for part, err := range l.failed {
		l.t.Logf("%s: %v", part, err)
	}
}

// pause keeps a client from taking all of the CPU.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// post publishes through the API.
func (l *load) post(ctx context.Context, channel, message string) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+l.g.Internal+"/publish/"+channel, strings.NewReader(message))
	if err != nil {
		return 0, err
	}
	req.Header.Set("X-API-Key", loadKey)
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close() // error ignored: only an unread rest could fail
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// publish publishes to everybody but the slow clients.
func (l *load) publish(ctx context.Context) error {
	for _, channel := range []string{"chat:1", "news"} {
		if status, err := l.post(ctx, channel, "hello"); err != nil || status != http.StatusOK {
			return fmt.Errorf("publish: %d, %w", status, err)
		}
	}
	return nil
}

// dial connects a WebSocket that ends with the context.
func (l *load) dial(ctx context.Context, url string, d ws.Dialer) (net.Conn, *bufio.Reader, func(), error) {
	conn, reader, _, err := d.Dial(ctx, url)
	if err != nil {
		return nil, nil, nil, err
	}
	if reader == nil {
		reader = bufio.NewReader(conn)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	return conn, reader, func() { stop(); conn.Close() }, nil
}

// duplex is a connection of which some bytes have been read already.
type duplex struct {
	io.Reader
	io.Writer
}

// raw connects with a position of another life, which is a gap, and publishes messages.
func (l *load) raw(ctx context.Context) error {
	conn, reader, end, err := l.dial(ctx, "ws://"+l.g.Public+"/ws/chat:1?format=json&since=none:1", ws.Dialer{Timeout: patience})
	if err != nil {
		return err
	}
	defer end()
	for range 10 {
		if err := wsutil.WriteClientText(conn, []byte("hi")); err != nil {
			return err
		}
		if _, err := wsutil.ReadServerText(duplex{reader, conn}); err != nil {
			return err
		}
	}
	return nil
}

// stream receives some events over SSE, those of the history first.
func (l *load) stream(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.g.Public+"/sse/news?history=10", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() // error ignored: the stream has no end
	lines := bufio.NewScanner(resp.Body)
	for n := 0; n < 20 && lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "data:") {
			n++
		}
	}
	return lines.Err()
}

// centrifugo subscribes as an SDK does, and goes on from a position that the history still has.
func (l *load) centrifugo(ctx context.Context) error {
	conn, reader, end, err := l.dial(ctx, "ws://"+l.g.Public+"/connection/websocket", ws.Dialer{Timeout: patience})
	if err != nil {
		return err
	}
	defer end()
	for _, command := range []string{`{"id":1,"connect":{}}`, `{"id":2,"subscribe":{"channel":"chat:1"}}`, `{"id":3,"publish":{"channel":"chat:1","data":{}}}`} {
		if err := wsutil.WriteClientText(conn, []byte(command)); err != nil {
			return err
		}
	}
	for range 10 {
		text, err := wsutil.ReadServerText(duplex{reader, conn})
		if err != nil {
			return err
		}
		if strings.Contains(string(text), `"error"`) {
			return fmt.Errorf("reply %s", text)
		}
	}
	return nil
}

// slow reads nothing of a channel until the channel has been full and the gateway has acted.
func (l *load) slow(ctx context.Context, channel string) error {
	small := ws.Dialer{Timeout: patience, NetDial: func(ctx context.Context, network, address string) (net.Conn, error) {
		d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
			return errors.Join(c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) }), err)
		}}
		return d.DialContext(ctx, network, address)
	}}
	conn, reader, end, err := l.dial(ctx, "ws://"+l.g.Public+"/ws/"+channel+"?format=json", small)
	if err != nil {
		return err
	}
	defer end()
	message := strings.Repeat("x", 30<<10)
	for full := false; ; {
		status, err := l.post(ctx, channel, message)
		switch {
		case err != nil:
			return err
		case status == http.StatusServiceUnavailable:
			full = true
			continue // it has taken 250 ms
		case status != http.StatusOK:
			return fmt.Errorf("publish: %d", status)
		}
		if full { // and is not any more: the client is out of the way
			break
		}
		pause(ctx, 10*time.Millisecond)
	}
	conn.SetReadDeadline(time.Now().Add(time.Second)) // error ignored: then reading fails
	_, err = io.Copy(io.Discard, reader)              // what it is notified of
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		return nil
	}
	return err
}

// secure connects over TLS, with a session of its own and then again with the same one.
func (l *load) secure(ctx context.Context) error {
	config := &tls.Config{RootCAs: l.pool, ServerName: "example.com", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	for range 2 {
		_, reader, end, err := l.dial(ctx, "wss://"+l.g.Secure+"/ws/news", ws.Dialer{Timeout: patience, TLSConfig: config})
		if err != nil {
			return err
		}
		_, err = reader.ReadByte() // the session's ticket comes with the first data
		end()
		if err != nil {
			return err
		}
	}
	return nil
}

// refused sends what the gateway does not accept: a token, a path; and a plain request.
func (l *load) refused(ctx context.Context) error {
	for path, want := range map[string]int{"/ws/news?token=none": http.StatusUnauthorized, "/none": http.StatusNotFound} {
		_, _, end, err := l.dial(ctx, "ws://"+l.g.Public+path, ws.Dialer{Timeout: patience})
		if err == nil {
			end()
		}
		if status := ws.StatusError(0); !errors.As(err, &status) || int(status) != want {
			return fmt.Errorf("%s: %v, want %d", path, err, want)
		}
	}
	conn, reader, end, err := l.dial(ctx, "ws://"+l.g.Public+"/connection/websocket", ws.Dialer{Timeout: patience})
	if err != nil {
		return err
	}
	defer end()
	if err := wsutil.WriteClientText(conn, []byte(`{"id":1,"connect":{"token":"none"}}`)); err != nil {
		return err
	}
	if _, err := wsutil.ReadServerText(duplex{reader, conn}); !errors.As(err, &wsutil.ClosedError{}) {
		return fmt.Errorf("an invalid token: %v, want a close", err)
	}
	_, _, err = get("http://" + l.g.Public + "/")
	return err
}

// application returns the URL of a backend that decides twice, and then fails once.
func application(t *testing.T) string {
	var calls atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1)%3 == 0 {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		io.WriteString(w, "{}") // ignored: the gateway sees it
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// asked subscribes to a channel about which a hook decides.
func (l *load) asked(ctx context.Context) error {
	for range 3 {
		_, _, end, err := l.dial(ctx, "ws://"+l.g.Public+"/ws/asked:1", ws.Dialer{Timeout: patience})
		if err == nil {
			end()
		} else if status := ws.StatusError(0); !errors.As(err, &status) || status != http.StatusServiceUnavailable {
			return err
		}
	}
	return nil
}
