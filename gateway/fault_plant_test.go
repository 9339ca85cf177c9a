//go:build faults

package gateway

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gobwas/ws"
)

// victims are connections by what they are, with the places that they come by.
var victims = []struct {
	name   string
	secure bool
	target string // of an upgrade; of an event stream where it begins with /sse
	says   []string
	places []string
}{
	{"raw", false, "/ws/x", []string{text("v"), ping("p"), part(0x01, "v"), part(0x80, "w"), closing(1000, "")}, []string{
		"begin", "read", "received", "feed", "handle", "publish", "peerClosed", "output", "reply", "write", "writeCork", "gather", "closeWith", "queueClose", "shut", "adjust"}},
	{"raw that hangs up", false, "/ws/x?echo=off", []string{text("v"), ""}, []string{"eof"}},
	{"raw at rest", false, "/ws/x", nil, []string{"expire", "keepAlive"}},
	{"records", false, "/ws/x?format=json&history=5", nil, []string{"catchUp", "queueRecalled"}},
	{"event stream", false, "/sse/x?history=5", nil, []string{"comment"}},
	{"TLS", true, "/ws/x", []string{text("v"), closing(1000, "")}, []string{"readSecure", "secureFailed"}},
	{"Centrifugo", false, "/connection/websocket", []string{text(`{"id":1,"connect":{}}` + "\n" + `{"id":2,"subscribe":{"channel":"x"}}` + "\n" + `{"id":3,"publish":{"channel":"x","data":"v"}}` + "\n" +
		`{"id":4,"presence":{"channel":"x"}}` + "\n" + `{"id":5,"history":{"channel":"x","limit":3}}` + "\n" + `{"id":6,"unsubscribe":{"channel":"x"}}`)}, []string{
		"commands", "connect", "answer", "publishCommand", "subscribe", "settleSubscription", "begin subscription", "unsubscribe", "presence", "history", "pingSession"}},
}

// arm makes the first connection panic that comes by a place and is newer than id; hit
// says that it did.
func arm(place string, id uint64) (hit *atomic.Bool) {
	hit = new(atomic.Bool)
	f := func(c *conn, here string) {
		if here == place && c != nil && c.id > id && !hit.Swap(true) {
			panic("planted at " + place)
		}
	}
	planted.Store(&f)
	return hit
}

// A panic in any place that works for one connection costs that one. A thousand others, who
// are on the same channel, lose nothing.
func TestFaultPanicsCostTheirConnectionAlone(t *testing.T) {
	t.Cleanup(func() { planted.Store(nil) })
	s := start(t, Config{MaxPerAddress: -1})
	secured, stop := alsoTLS(t, s)
	defer stop()
	others, published := scaled(1000, 100), 0
	ends := make(chan error, others)
	var joined sync.WaitGroup
	for range others {
		c := dial(t, s, "/ws/x?mode=subscribe")
		joined.Add(1)
		go func() {
			joined.Done()
			ends <- c.count("m")
		}()
	}
	joined.Wait()
	newest := s.lastID.Load()
	for _, v := range victims {
		for _, place := range v.places {
			before := s.panics()
			hit := arm(place, newest)
			on := s
			if v.secure {
				on = secured
			}
			c := connect(t, on)
			c.play(v.target, v.says)
			waitFor(t, v.name+" to come by "+place, func() bool {
				s.nudge(newest)
				return hit.Load()
			})
			waitFor(t, "its panic to be counted", func() bool { return s.panics() > before })
			c.conn.Close() // ignored: it has ended on the other side
			s.wantConnections(int64(others))
			s.publish("x", fmt.Sprintf("m%d", published))
			published++
		}
	}
	s.publish("x", "m end")
	for range others {
		if err := receive(t, "another client to get everything", ends); err != nil {
			t.Error(err)
		}
	}
	if published < 30 || s.panics() != uint64(published) {
		t.Errorf("%d panics in %d places", s.panics(), published)
	}
	s.wantConnections(int64(others))
}

// Where it can be, the client learns of it.
func TestFaultPanicIsTold(t *testing.T) {
	t.Cleanup(func() { planted.Store(nil) })
	s := start(t, Config{Loops: 1})
	c := dial(t, s, "/ws/x")
	arm("handle", 0)
	c.send(text("v"))
	c.wantClose("its bytes made a step panic", 1011)
	s.wantClosed(reasonPanic, 1)
}

// Who is closed because of a panic may panic again; then it is cut off, and that is all.
func TestFaultPanicWhileClosing(t *testing.T) {
	t.Cleanup(func() { planted.Store(nil) })
	s := start(t, Config{Loops: 1})
	other, c := dial(t, s, "/ws/x?mode=subscribe"), dial(t, s, "/ws/x")
	f := func(c *conn, place string) {
		if c != nil && c.id == 2 && (place == "handle" || place == "queueClose") {
			panic("planted at " + place)
		}
	}
	planted.Store(&f)
	c.send(text("v"))
	s.wantConnections(1)
	s.publish("x", "after")
	other.wantText("it goes on", "after")
	if n := s.panics(); n != 1 {
		t.Errorf("%d panics are counted, want 1", n)
	}
}

// Whose connections make steps panic is refused for a minute after three. The hook's
// panics are not the client's doing.
func TestFaultAddressOfPanicsIsRefused(t *testing.T) {
	t.Cleanup(func() { planted.Store(nil) })
	s := start(t, Config{Loops: 1, Raw: RawPublish, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, OnMessage: func(m Message) bool {
		if string(m.Payload) == "hook" {
			panic("by order of the test")
		}
		return true
	}})
	from := func(address string) *client { return dial(t, s, "/ws/x", "X-Forwarded-For: "+address) }
	for i := range 4 {
		from(fmt.Sprintf("192.0.2.%d", i))
	}
	for range 5 {
		c := from("198.51.100.1")
		c.send(text("hook"))
		c.wantClose("the hook panicked", 1011)
	}
	for range 3 {
		c := from("198.51.100.1")
		arm("handle", 0)
		c.send(text("v"))
		c.wantClose("its bytes made a step panic", 1011)
	}
	c := connect(t, s)
	c.write(upgradeTo("/ws/x", "X-Forwarded-For: 198.51.100.1"))
	c.wantStatus("three of its connections made a step panic", http.StatusTooManyRequests)
	from("198.51.100.2")
	if s.panics() != 8 || !s.Ready() {
		t.Errorf("%d panics, ready: %v", s.panics(), s.Ready())
	}
}

func (s *server) panics() uint64 {
	return s.sum(func(st *loopStats) uint64 { return st.panics.Load() })
}

// nudge makes the connections due that are newer than id.
func (s *server) nudge(id uint64) {
	s.do(func(l *loop) {
		for _, c := range l.conns {
			if c.id > id {
				l.wakeAt(c, l.now)
				l.checked = 0
			}
		}
		l.poller.Wake()
	})
}

// alsoTLS serves s on a listener with TLS as well, until stop is called or s is shut down.
func alsoTLS(t testing.TB, s *server) (secured *server, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.ServeTLS(l, testTLS()) }()
	t.Cleanup(func() { s.shutdown(context.Background()); <-served }) // ignored: the test says what is left
	return &server{Server: s.Server, t: t, addr: l.Addr().String(), secured: true}, func() { l.Close() }
}

// play asks for a target and sends frames, "" for a FIN. That it fails is no fault.
func (c *client) play(target string, frames []string) {
	request := upgradeTo(target)
	if strings.HasPrefix(target, "/sse") {
		request = "GET " + target + " HTTP/1.1\r\nHost: localhost\r\n\r\n"
	}
	c.patience()
	c.conn.Write([]byte(request))
	http.ReadResponse(c.in, nil) // else what follows would be taken with the request
	for _, f := range frames {
		if f == "" {
			c.conn.CloseWrite() // ignored: see above; so are the others
		}
		c.conn.Write([]byte(f))
	}
}

// count reads texts that begin with a prefix, numbered from 0 on, until their end.
func (c *client) count(prefix string) error {
	for n := 0; ; {
		c.patience()
		op, p, err := c.next()
		switch {
		case err != nil:
			return fmt.Errorf("behind %d: %w", n, err)
		case p == prefix+" end":
			return nil
		case op != ws.OpText || !strings.HasPrefix(p, prefix):
		case p != fmt.Sprint(prefix, n):
			return fmt.Errorf("got %q, want number %d", p, n)
		default:
			n++
		}
	}
}

// plantEnv makes the test binary a server in which a place panics that others rely on.
const plantEnv = "SLUICE_TEST_PLANT"

// A panic in what connections share ends the process, and the log says of which
// connection and where.
func TestFaultPanicInWhatIsSharedEndsTheProcess(t *testing.T) {
	if place := os.Getenv(plantEnv); place != "" {
		playShared(t, place)
		return
	}
	for _, place := range []string{"enter", "moved", "remove", "identify", "append"} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run", "^TestFaultPanicInWhatIsSharedEndsTheProcess$")
			cmd.Env = append(os.Environ(), plantEnv+"="+place)
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			err := cmd.Run()
			if cmd.ProcessState.ExitCode() != 2 {
				t.Errorf("the process ended with %v", err)
			}
			for _, want := range []string{"the process cannot continue", "conn=", "planted at " + place, "goroutine ", ".(*conn).plant", "panic: planted"} {
				if !strings.Contains(out.String(), want) {
					t.Errorf("its log has no %q: %s", want, out.String())
				}
			}
		})
	}
}

// playShared comes by a place in what connections share.
func playShared(t *testing.T, place string) {
	s := start(t, Config{Loops: 1, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	f := func(_ *conn, here string) {
		if here == place {
			panic("planted at " + place)
		}
	}
	a, b := dial(t, s, "/ws/x"), dial(t, s, "/ws/x")
	planted.Store(&f)
	switch place {
	case "append":
		b.send(text("v"))
	case "identify":
		connect(t, s).play("/connection/websocket", []string{text(`{"id":1,"connect":{}}`)})
	case "enter":
		connect(t, s).play("/ws/x", nil)
	default:
		a.vanish()
	}
	waitFor(t, "the process to end", func() bool { return false })
}
