package gateway

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/gateway/loop"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"
)

var (
	interleaveSteps = flag.Int("fault.steps", 0, "steps of TestInterleavings; 0: 10,000, 2,000 under the race detector")
	interleaveSeed  = flag.Uint64("fault.seed", 0, "its seed; 0: another one each time")
)

// Clients and server write, read, close and hang up in every order at once, and the
// numbers of descriptors are used again and again: nobody gets a byte that is
// another's, one who stays misses nothing, and nothing is left. The long form:
//
//	go test -race ./gateway -run Interleavings -fault.steps 100000
func TestInterleavings(t *testing.T) {
	clienttest.UncompressedOnly(t)
	t.Parallel()
	steps, seed := *interleaveSteps, *interleaveSeed
	if steps == 0 {
		steps = clienttest.Scaled(10_000, 2000)
	}
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("again with: go test ./gateway -run Interleavings -fault.steps %d -fault.seed %d", steps, seed)
		}
	})
	s := start(t, Config{MaxMessage: 4 << 10})
	s.Clock.Slow() // the witness reads beside all the others
	witness := clienttest.Dial(t, s, "/ws/x?format=json&since=now")
	position := witness.WantPosition("it asked where it begins", false, 0)
	const tellers = 4
	var told sync.WaitGroup
	var opened atomic.Int64
	for i := range tellers {
		told.Add(1)
		go func() {
			defer told.Done()
			b := babble{server: s, Rand: rand.New(rand.NewPCG(seed, uint64(i))), witness: position.Conn, name: fmt.Sprint("teller", i)}
			for range steps / tellers {
				b.step()
			}
			for _, c := range b.clients {
				c.leave(false)
			}
			b.readers.Wait()
			opened.Add(int64(b.opened))
		}()
	}
	stopped := make(chan struct{})
	go func() {
		told.Wait()
		s.publish("x", "the end")
		close(stopped)
	}()
	for offset := uint64(1); ; offset++ {
		r := witness.Record("every publication")
		if r.Gap != nil || r.Offset != offset {
			t.Fatalf("the witness got %+v, want offset %d", r, offset)
		}
		if *r.Data == "the end" {
			break
		}
	}
	<-stopped
	s.wantConnections(1)
	t.Logf("%d steps, %d connections", steps, opened.Load())
}

// babble makes random steps with a few clients.
type babble struct {
	*rand.Rand
	server  *server
	witness string // the id of a connection that is let alone
	name    string
	clients []*babbler
	opened  int
	readers sync.WaitGroup
}

// babbler is a client that says whatever comes to mind.
type babbler struct {
	*clienttest.Client
	name string
	echo bool
	half bool // half a frame was sent: nothing sensible can follow
	said int
	read sync.Mutex // held while it does not read
	held bool
}

func (b *babble) step() {
	if len(b.clients) < 4 || len(b.clients) < 16 && b.IntN(8) == 0 {
		b.open()
		return
	}
	i := b.IntN(len(b.clients))
	c := b.clients[i]
	switch b.IntN(16) {
	default:
		if !c.half {
			c.tell(clienttest.Text(fmt.Sprintf("%s %d %s", c.name, c.said, strings.Repeat(".", b.IntN(3000)))))
			c.said++
		}
	case 0:
		if !c.half {
			c.tell(clienttest.Ping("p"), clienttest.Pong("unasked"))
		}
	case 1:
		c.half = true
		c.tell(clienttest.Text(strings.Repeat("h", 200))[:100])
	case 2: // only an echo: the others' publishers would wait for it
		if c.echo && !c.held {
			c.read.Lock()
			c.held = true
		} else {
			c.resume()
		}
	case 3, 4:
		c.tell(clienttest.Closing(1000, "bye"))
	case 5:
		c.Conn.CloseWrite() // ignored: it may be gone
	case 6, 7:
		c.leave(b.IntN(2) == 0)
		b.clients = append(b.clients[:i], b.clients[i+1:]...)
	case 8:
		b.serverCloses()
	}
}

// serverCloses ends a connection from the other side, more than once.
func (b *babble) serverCloses() {
	l := b.server.Loops[b.IntN(len(b.server.Loops))]
	n, whys := b.Int(), [3]loop.Reason{}
	for i := range whys {
		whys[i] = [...]loop.Reason{loop.ReasonSlow, loop.ReasonNoPong, loop.ReasonNotAllowed, loop.ReasonShutdown, loop.ReasonPanic}[b.IntN(5)]
	}
	cut := b.IntN(3)
	l.Post(posted(func(l *loop.Loop) {
		var all []*loop.Conn
		l.Describe(func(c *loop.Conn) uint64 { all = append(all, c); return 0 }, 1)
		if len(all) == 0 {
			return
		}
		c := all[n%len(all)]
		if fmt.Sprint(c.ID()) == b.witness {
			return
		}
		for i, why := range whys {
			if i == cut {
				unix.Shutdown(c.FD(), unix.SHUT_RDWR) // ignored: it may be gone
			}
			c.Close(why)
			c.Settle()
		}
	}))
}

// posted is a message that runs a function on its loop.
type posted func(*loop.Loop)

func (f posted) Deliver(l *loop.Loop) { f(l) }

func (b *babble) open() {
	c := &babbler{echo: b.IntN(2) == 0, name: fmt.Sprintf("%s.%d", b.name, b.opened)}
	b.opened++
	target := [...]string{"/ws/x", "/ws/x?echo=off"}[b.IntN(2)]
	if c.echo {
		target = "/echo"
	}
	c.Client = clienttest.Connect(b.server.T, b.server)
	c.tell(clienttest.UpgradeTo(target))
	b.clients = append(b.clients, c)
	b.readers.Add(1)
	go func() {
		defer b.readers.Done()
		if err := c.listen(); err != nil {
			b.server.T.Errorf("%s (echo: %t): %v", c.name, c.echo, err)
		}
	}()
}

// listen reads until the end and checks what comes.
func (c *babbler) listen() error {
	c.Conn.SetDeadline(time.Now().Add(10 * clienttest.Patience)) // ignored: then reading fails
	line, err := c.In.ReadString('\n')
	for err == nil && line != "\r\n" {
		line, err = c.In.ReadString('\n')
	}
	next := make(map[string]int)
	for err == nil {
		var h ws.Header
		if h, err = ws.ReadHeader(c.In); err != nil {
			break
		}
		if !h.Fin || h.Masked || h.Rsv != 0 || h.Length > 4<<10 {
			return fmt.Errorf("a frame with the header %+v", h)
		}
		p := make([]byte, h.Length)
		if _, err = io.ReadFull(c.In, p); err != nil || h.OpCode != ws.OpText {
			continue
		}
		var name string
		var n int
		if string(p) == "the end" {
			continue
		}
		if _, err := fmt.Sscanf(string(p), "%s %d", &name, &n); err != nil || c.echo && name != c.name {
			return fmt.Errorf("got %q", clienttest.Brief(string(p)))
		}
		if was, seen := next[name]; seen && n != was || c.echo && n != was {
			return fmt.Errorf("got message %d of %s, want %d", n, name, was)
		}
		c.read.Lock() // here it stops reading
		next[name] = n + 1
		c.read.Unlock()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("its end did not come: %w", err)
	}
	return nil
}

func (c *babbler) tell(frames ...string) {
	io.WriteString(c.Conn, strings.Join(frames, "")) // ignored: it may be gone
}

func (c *babbler) resume() {
	if c.held {
		c.held = false
		c.read.Unlock()
	}
}

// leave closes the socket, or resets it.
func (c *babbler) leave(reset bool) {
	if reset {
		c.Conn.SetLinger(0) // ignored: likewise
	}
	c.Conn.Close() // ignored: likewise
	c.resume()
}
