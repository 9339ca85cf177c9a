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

	"sluice/gateway/access/auth"
	"sluice/gateway/centrifugo"
	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/hook"
	"sluice/gateway/loop"
	"sluice/gateway/wire"

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
	{"raw", false, "/ws/x", []string{clienttest.Text("v"), clienttest.Ping("p"), clienttest.Part(0x01, "v"), clienttest.Part(0x80, "w"), clienttest.Closing(1000, "")}, []string{
		"begin", "read", "received", "feed", "handle", "publish", "peerClosed", "output", "reply", "write", "writeCork", "gather", "closeWith", "queueClose", "shut", "adjust"}},
	{"raw that hangs up", false, "/ws/x?echo=off", []string{clienttest.Text("v"), ""}, []string{"eof"}},
	{"raw at rest", false, "/ws/x", nil, []string{"expire", "keepAlive"}},
	{"records", false, "/ws/x?format=json&history=5", nil, []string{"catchUp", "queueRecalled"}},
	{"event stream", false, "/sse/x?history=5", nil, []string{"keepAlive"}},
	{"TLS", true, "/ws/x", []string{clienttest.Text("v"), clienttest.Closing(1000, "")}, []string{"readSecure", "secureFailed"}},
	{"Centrifugo", false, "/connection/websocket", []string{clienttest.Text(`{"id":1,"connect":{}}` + "\n" + `{"id":2,"subscribe":{"channel":"x"}}` + "\n" + `{"id":3,"publish":{"channel":"x","data":"v"}}` + "\n" +
		`{"id":4,"presence":{"channel":"x"}}` + "\n" + `{"id":5,"history":{"channel":"x","limit":3}}` + "\n" + `{"id":6,"unsubscribe":{"channel":"x"}}`)}, []string{
		"commands", "connect", "answer", "publishCommand", "subscribe", "settleSubscription", "begin subscription", "unsubscribe", "presence", "history", "keepAlive"}},
}

// arm makes the first connection panic that comes by a place and is newer than id; hit
// says that it did.
func arm(place string, id uint64) (hit *atomic.Bool) {
	hit = new(atomic.Bool)
	f := func(c *loop.Conn, here string) {
		if here == place && c != nil && c.ID() > id && !hit.Swap(true) {
			panic("planted at " + place)
		}
	}
	loop.Planted.Store(&f)
	return hit
}

// newest returns the ID of the connection that was opened last.
func (s *server) newest() (id uint64) {
	s.Each(func(c *loop.Conn) { id = max(id, c.ID()) })
	return id
}

// A panic in any place that works for one connection costs that one. A thousand others, who
// are on the same channel, lose nothing.
func TestFaultPanicsCostTheirConnectionAlone(t *testing.T) {
	t.Cleanup(func() { loop.Planted.Store(nil) })
	s := start(t, Config{MaxPerAddress: -1})
	secured, stop := alsoTLS(t, s)
	defer stop()
	others, published := clienttest.Scaled(1000, 100), 0
	ends := make(chan error, others)
	var joined sync.WaitGroup
	for range others {
		c := clienttest.Dial(t, s, "/ws/x?mode=subscribe")
		joined.Add(1)
		go func() {
			joined.Done()
			ends <- count(c, "m")
		}()
	}
	joined.Wait()
	newest := s.newest()
	for _, v := range victims {
		for _, place := range v.places {
			before := s.panics()
			hit := arm(place, newest)
			on := s
			if v.secure {
				on = secured
			}
			c := clienttest.Connect(t, on)
			say(c, v.target, v.says)
			clienttest.WaitFor(t, v.name+" to come by "+place, func() bool {
				s.Do(func(l *loop.Loop) { l.PlantDue(newest) })
				return hit.Load()
			})
			clienttest.WaitFor(t, "its panic to be counted", func() bool { return s.panics() > before })
			c.Conn.Close() // ignored: it has ended on the other side
			s.wantConnections(int64(others))
			s.publish("x", fmt.Sprintf("m%d", published))
			published++
		}
	}
	s.publish("x", "m end")
	for range others {
		if err := clienttest.Receive(t, "another client to get everything", ends); err != nil {
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
	t.Cleanup(func() { loop.Planted.Store(nil) })
	s := start(t, Config{Loops: 1})
	c := clienttest.Dial(t, s, "/ws/x")
	arm("handle", 0)
	c.Send(clienttest.Text("v"))
	c.WantClose("its bytes made a step panic", 1011)
	s.WantClosed(loop.ReasonPanic, 1)
}

// Who is closed because of a panic may panic again; then it is cut off, and that is all.
func TestFaultPanicWhileClosing(t *testing.T) {
	t.Cleanup(func() { loop.Planted.Store(nil) })
	s := start(t, Config{Loops: 1})
	other := clienttest.Dial(t, s, "/ws/x?mode=subscribe")
	before := s.newest()
	c := clienttest.Dial(t, s, "/ws/x")
	f := func(c *loop.Conn, place string) {
		if c != nil && c.ID() > before && (place == "handle" || place == "queueClose") {
			panic("planted at " + place)
		}
	}
	loop.Planted.Store(&f)
	c.Send(clienttest.Text("v"))
	s.wantConnections(1)
	s.publish("x", "after")
	other.WantText("it goes on", "after")
	if n := s.panics(); n != 1 {
		t.Errorf("%d panics are counted, want 1", n)
	}
}

// Whose connections make steps panic is refused for a minute after three. The hook's
// panics are not the client's doing.
func TestFaultAddressOfPanicsIsRefused(t *testing.T) {
	t.Cleanup(func() { loop.Planted.Store(nil) })
	s := start(t, Config{Loops: 1, Raw: RawPublish, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Hooks: filter(func(m hook.FilterRequest) bool {
		if string(m.Payload) == "hook" {
			panic("by order of the test")
		}
		return true
	})})
	from := func(address string) *clienttest.Client {
		return clienttest.Dial(t, s, "/ws/x", "X-Forwarded-For: "+address)
	}
	for i := range 4 {
		from(fmt.Sprintf("192.0.2.%d", i))
	}
	for range 5 {
		c := from("198.51.100.1")
		c.Send(clienttest.Text("hook"))
		c.WantClose("the hook panicked", 1011)
	}
	for range 3 {
		c := from("198.51.100.1")
		arm("handle", 0)
		c.Send(clienttest.Text("v"))
		c.WantClose("its bytes made a step panic", 1011)
	}
	c := clienttest.Connect(t, s)
	c.Write(clienttest.UpgradeTo("/ws/x", "X-Forwarded-For: 198.51.100.1"))
	c.WantStatus("three of its connections made a step panic", http.StatusTooManyRequests)
	from("198.51.100.2")
	if s.panics() != 8 || !s.Ready() {
		t.Errorf("%d panics, ready: %v", s.panics(), s.Ready())
	}
}

func (s *server) panics() uint64 {
	return s.Sum(func(st *loop.Stats) uint64 { return st.Panics.Load() })
}

// alsoTLS serves s on a listener with TLS as well, until stop is called or s is shut down.
func alsoTLS(t testing.TB, s *server) (secured *server, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.ServeTLS(l, clienttest.TestTLS()) }()
	t.Cleanup(func() { s.shutdown(context.Background()); <-served }) // ignored: the test says what is left
	return &server{Server: s.Server, Gauges: s.Gauges, addr: l.Addr().String(), secured: true}, func() { l.Close() }
}

// say asks for a target and sends frames, "" for a FIN. That it fails is no fault.
func say(c *clienttest.Client, target string, frames []string) {
	request := clienttest.UpgradeTo(target)
	if strings.HasPrefix(target, "/sse") {
		request = "GET " + target + " HTTP/1.1\r\nHost: localhost\r\n\r\n"
	}
	c.Patience()
	c.Conn.Write([]byte(request))
	http.ReadResponse(c.In, nil) // else what follows would be taken with the request
	for _, f := range frames {
		if f == "" {
			c.Conn.CloseWrite() // ignored: see above; so are the others
		}
		c.Conn.Write([]byte(f))
	}
}

// count reads texts that begin with a prefix, numbered from 0 on, until their end.
func count(c *clienttest.Client, prefix string) error {
	for n := 0; ; {
		c.Patience()
		op, p, err := c.Next()
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
	for _, place := range []string{"enter", "moved", "remove", "identify", "append", "presence"} {
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
			wants := []string{"the process cannot continue", "conn=", "planted at " + place, "goroutine ", ".(*Conn).Plant", "panic: planted"}
			if place == "presence" { // a protocol's own list, see centrifugo.sharing
				wants = []string{"the process cannot continue", "conn=", "panic in sluice/gateway/presence.", "panic: "}
			}
			for _, want := range wants {
				if !strings.Contains(out.String(), want) {
					t.Errorf("its log has no %q: %s", want, out.String())
				}
			}
		})
	}
}

// plantedFormat comes by a place when it encodes.
type plantedFormat struct{ wire.Raw }

func (f plantedFormat) Append(dst []byte, p *channel.Publication) []byte {
	(*loop.Conn)(nil).Plant("append")
	return f.Raw.Append(dst, p)
}

// playShared comes by a place in what connections share.
func playShared(t *testing.T, place string) {
	cfg := Config{}
	if place == "presence" {
		cfg = guarded(t, `{"namespaces":[{"name":"pp","presence":true,"allow_subscribe_for_client":true}]}`)
	}
	cfg.Loops, cfg.Logger = 1, slog.New(slog.NewTextHandler(os.Stderr, nil))
	s := start(t, cfg)
	if place == "presence" {
		for _, v := range s.protocols.Variants {
			if p, ok := v.Protocol.(*centrifugo.Protocol); ok {
				p.Presence = nil
			}
		}
		c := member(t, s, tokens(t, auth.Claims{User: "42"}))
		c.Does(`{"id":2,"subscribe":{"channel":"pp:x"}}`)
		clienttest.WaitFor(t, "the process to end", func() bool { return false })
	}
	f := func(_ *loop.Conn, here string) {
		if here == place {
			panic("planted at " + place)
		}
	}
	a := clienttest.Dial(t, s, "/ws/x")
	first := s.newest()
	b := clienttest.Dial(t, s, "/ws/x")
	loop.Planted.Store(&f)
	switch place {
	case "append":
		s.Each(func(c *loop.Conn) {
			if c.ID() == first {
				_ = c.Join("x", plantedFormat{}, 0)
			}
		})
		b.Send(clienttest.Text("v"))
	case "identify":
		say(clienttest.Connect(t, s), "/connection/websocket", []string{clienttest.Text(`{"id":1,"connect":{}}`)})
	case "enter":
		say(clienttest.Connect(t, s), "/ws/x", nil)
	default:
		a.Vanish()
	}
	clienttest.WaitFor(t, "the process to end", func() bool { return false })
}
