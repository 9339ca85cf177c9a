package loop

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"
)

// relay passes connections to the loops of another set, as a process does to another one.
type relay struct {
	t   testing.TB
	mu  sync.Mutex
	to  *Taking
	r   *rand.Rand // when there is no room; nil for never
	all map[uint64]bool
}

func (p *relay) full() bool { return p.r != nil && p.r.IntN(3) == 0 }

// Pass implements Passer. Now and then there is no room.
func (p *relay) Pass(ids []uint64, fds []int) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.full() {
		return false, nil
	}
	var dups []int
	for i, fd := range fds {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return false, err
		}
		if p.all[ids[i]] {
			p.t.Errorf("connection %d is passed twice", ids[i])
		}
		p.all[ids[i]] = true
		dups = append(dups, dup)
	}
	return true, p.to.Add(ids, dups)
}

// Gone implements Passer.
func (p *relay) Gone(ids []uint64) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.full() {
		return false, nil
	}
	for _, id := range ids {
		if !p.all[id] {
			p.t.Errorf("connection %d is taken back, and was not passed", id)
		}
		delete(p.all, id)
	}
	p.to.Gone(ids)
	return true, nil
}

// freezing is a handover whose old loops are frozen.
type freezing struct {
	t        testing.TB
	from, to *loops
	out      *relay
	giving   *Giving
	snapshot *channel.Snapshot
}

// freeze passes the connections of one set to another, and freezes it. r is when there is no room now and then; nil for
// never.
func freeze(t testing.TB, from, to *loops, r *rand.Rand) *freezing {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), clienttest.Patience)
	defer cancel()
	f := &freezing{t: t, from: from, to: to, out: &relay{t: t, to: to.set.Take(), r: r, all: map[uint64]bool{}}, snapshot: from.space.Snapshot()}
	var passed <-chan struct{}
	f.giving, passed = from.set.Give(f.out)
	for more := true; more; {
		var piece []byte
		if piece, more = f.snapshot.Copy(nil, 1000); more {
			if err := to.space.Restore(piece); err != nil {
				t.Fatal(err)
			}
		}
	}
	for more := true; more; {
		var piece []byte
		var err error
		if piece, more, err = f.giving.CopyLogs(nil, 100<<10); err == nil {
			err = f.out.to.Restore(piece)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	clienttest.Receive(t, "all to be passed", passed)
	if err := f.giving.Freeze(ctx); err != nil {
		t.Fatal(err)
	}
	travel := 0
	for _, l := range from.set.loops { // they stand still
		for _, c := range l.conns {
			if c.travels() {
				travel++
			}
		}
	}
	if travel != len(f.out.all) {
		t.Errorf("%d connections were passed, want %d", len(f.out.all), travel)
	}
	return f
}

// giveUp has the old loops go on.
func (f *freezing) giveUp() {
	f.out.to.Abandon()
	f.giving.Thaw()
}

// take builds the connections in the new loops.
func (f *freezing) take(rest, records []byte) {
	f.t.Helper()
	err := f.to.space.Restore(rest)
	n := 0
	if err == nil {
		n, err = f.out.to.Load(records)
	}
	if err != nil {
		f.out.to.goOn() // so that the loops can be stopped
		f.giving.Thaw()
		f.t.Fatal(err)
	}
	if n != len(f.out.all) {
		f.t.Errorf("%d connections, want %d", n, len(f.out.all))
	}
}

// complete has the new loops go on.
func (f *freezing) complete() {
	f.to.space.Restored()
	f.out.to.Start()
	f.giving.Given(0)
}

// handOver hands the connections of one set over to another. If it is not completed, the old ones go on.
func handOver(t *testing.T, from, to *loops, seed uint64, complete bool) {
	t.Helper()
	f := freeze(t, from, to, rand.New(rand.NewPCG(seed, 9)))
	rest, records := f.snapshot.Rest(nil), f.giving.Save(nil)
	if !complete {
		f.giveUp()
		return
	}
	f.take(rest, records)
	f.complete()
}

// numbered reads the numbered messages of a client until it has the last one of each publisher. The numbers of each
// begin with 0 and have no hole.
type numbered struct {
	cl    *clienttest.Client
	kind  string // raw, json or sse
	next  map[string]int
	last  int
	want  int // publishers
	pause time.Duration
	ended int
}

func (n *numbered) take(text string) error {
	who, number := "", 0
	text, _, _ = strings.Cut(text, " ") // padding
	if _, err := fmt.Sscanf(strings.ReplaceAll(text, "-", " "), "%s %d", &who, &number); err != nil {
		return fmt.Errorf("%q: %w", text, err)
	}
	if number != n.next[who] {
		return fmt.Errorf("%s: message %d, want %d", who, number, n.next[who])
	}
	if n.next[who]++; number == n.last {
		n.ended++
	}
	return nil
}

func (n *numbered) read() error {
	in := n.cl.In
	if n.pause > 0 {
		in = bufio.NewReaderSize(slowReader{in, n.pause}, 512)
	}
	for n.ended < n.want {
		n.cl.Patience()
		text := ""
		if n.kind == "sse" {
			line, err := in.ReadString('\n')
			if err != nil {
				return err
			}
			var ok bool
			if text, ok = strings.CutPrefix(strings.TrimSpace(line), "data: "); !ok || strings.Contains(text, `"gap"`) {
				continue
			}
		} else {
			h, err := ws.ReadHeader(in)
			if err != nil {
				return err
			}
			p := make([]byte, h.Length)
			if _, err := io.ReadFull(in, p); err != nil {
				return err
			}
			if h.OpCode != ws.OpText {
				return fmt.Errorf("%v %q", h.OpCode, p)
			}
			if text = string(p); h.Rsv1() { // with -deflate
				if text, err = clienttest.Inflated(text); err != nil {
					return err
				}
			}
		}
		if n.kind == "json" {
			var r struct{ Data string }
			if err := json.Unmarshal([]byte(text), &r); err != nil {
				return fmt.Errorf("%q: %w", text, err)
			}
			text = r.Data
		}
		if err := n.take(text); err != nil {
			return err
		}
	}
	return nil
}

type slowReader struct {
	io.Reader
	pause time.Duration
}

func (s slowReader) Read(p []byte) (int, error) {
	time.Sleep(s.pause)
	return s.Reader.Read(p[:min(len(p), 512)])
}

// TestHandOverUnderLoad hands connections over while clients publish and read at all speeds, in frames that are cut
// anywhere in both directions: every reader has every message, once and in order.
func TestHandOverUnderLoad(t *testing.T) {
	if *clienttest.OverTLS {
		t.Skip("connections with TLS cannot be handed over")
	}
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			handOverUnderLoad(t, seed)
		})
	}
}

func handOverUnderLoad(t *testing.T, seed uint64) {
	const channels, publishers, messages = 4, 2, 400 // publishers in each channel
	cfg := loopsConfig{Loops: 2, SendBuffer: 4 << 10, ChannelBuffer: 1 << 20, WriteTimeout: -1, MessageRate: -1, ControlRate: -1, PingInterval: -1}
	a := startLoops(t, cfg)
	cfg.Loops = 3
	failed, b := startLoops(t, cfg), startLoops(t, cfg)
	r := rand.New(rand.NewPCG(seed, 3))
	var running sync.WaitGroup
	fail := func(who string, err error) {
		if err != nil {
			t.Errorf("%s: %v", who, err)
		}
	}
	for c := range channels {
		for i := range 12 {
			kind := []string{"raw", "json", "sse", "raw"}[i%4]
			target := map[string]string{"raw": "/ws/c%d", "json": "/ws/c%d?format=json", "sse": "/sse/c%d"}[kind]
			target = fmt.Sprintf(target, c)
			if kind == "sse" && i%8 == 2 {
				target, kind = target+"?since=now", "sse"
			}
			n := &numbered{kind: kind, next: map[string]int{}, last: messages - 1, want: publishers}
			switch {
			case i%3 == 0:
				n.cl, n.pause = clienttest.ConnectWith(t, a, 2048), 3*time.Millisecond
			default:
				n.cl = clienttest.Connect(t, a)
			}
			if kind == "sse" {
				n.cl.Stream(target)
			} else {
				n.cl.Upgrade(target)
			}
			running.Go(func() { fail(fmt.Sprintf("%s reader %d of channel %d", n.kind, i, c), n.read()) })
		}
	}
	a.wantConnections(channels * 12)
	var sent atomic.Int64
	begin := make(chan struct{})
	for c := range channels {
		for i := range publishers {
			cl := clienttest.Dial(t, a, fmt.Sprintf("/ws/c%d?echo=off", c))
			pub := rand.New(rand.NewPCG(seed, uint64(100*c+i)))
			n := &numbered{cl: cl, kind: "raw", next: map[string]int{}, last: messages - 1, want: publishers - 1}
			running.Go(func() { fail(fmt.Sprintf("publisher %d of channel %d", i, c), n.read()) })
			running.Go(func() {
				<-begin
				for k := range messages {
					f := clienttest.Text(fmt.Sprintf("p%d.%d-%d %s", c, i, k, clienttest.Noise(pub.IntN(900))))
					cut := pub.IntN(len(f) + 1)
					cl.Write(f[:cut])
					if pub.IntN(4) == 0 {
						time.Sleep(time.Duration(pub.IntN(2000)) * time.Microsecond)
					}
					cl.Write(f[cut:])
					sent.Add(1)
				}
			})
		}
	}
	close(begin)
	reach := func(part int64) {
		clienttest.WaitFor(t, "messages to be sent", func() bool { return sent.Load() >= channels*publishers*messages*part/4 })
	}
	reach(1)
	var coming sync.WaitGroup
	stop := make(chan struct{})
	coming.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				cl := clienttest.Dial(t, a, "/ws/c0")
				cl.Vanish()
			}
		}
	})
	handOver(t, a, failed, seed, false)
	reach(2)
	close(stop)
	coming.Wait()
	time.Sleep(time.Duration(r.IntN(5000)) * time.Microsecond)
	handOver(t, a, b, seed, true)
	running.Wait()
	if n := a.connections(); n != 0 {
		t.Errorf("the old loops have %d connections", n)
	}
	for _, name := range []string{"c0", "c1"} {
		if got := b.space.Find(name).Newest().Offset; got != publishers*messages {
			t.Errorf("%s is at %d, want %d", name, got, publishers*messages)
		}
	}
}

// A publication that waits is done by the new loops, and then what its client has sent behind it.
func TestHandOverOfOneThatWaits(t *testing.T) {
	if *clienttest.OverTLS {
		t.Skip("connections with TLS cannot be handed over")
	}
	cfg := loopsConfig{PingInterval: -1, ChannelBuffer: 64 << 10}
	a, b := startLoops(t, cfg), startLoops(t, cfg)
	full := clienttest.HoldFull(t, a.space, "x", 16<<10)
	reader := clienttest.Dial(t, a, "/ws/x")
	publisher := clienttest.Dial(t, a, "/ws/x?echo=off")
	publisher.Send(clienttest.Text("one"+clienttest.Stars(16<<10)), clienttest.Text("two"), clienttest.Text("three"))
	clienttest.WaitFor(t, "the publication to wait", func() bool { return a.publishersWaiting("x") == 1 })
	handOver(t, a, b, 1, true)
	a.space.Leave(&full.Reader)
	for _, want := range []string{"one" + clienttest.Stars(16<<10), "two", "three"} {
		reader.WantText("the publications in their order", want)
	}
}

// Readers that are far behind hold the log in the new process, on whichever loop they are.
func TestHandOverOfLaggards(t *testing.T) {
	if *clienttest.OverTLS {
		t.Skip("connections with TLS cannot be handed over")
	}
	cfg := loopsConfig{PingInterval: -1, ChannelBuffer: 64 << 10, SendBuffer: 4 << 10, Loops: 3}
	a, b := startLoops(t, cfg), startLoops(t, cfg)
	var readers []*clienttest.Client
	for range 6 {
		readers = append(readers, clienttest.DialSmall(t, a, "/ws/x"))
	}
	n := 0
	publish := func(s *loops, most int) {
		for range most {
			if _, err := s.tryPublish(10*time.Millisecond, "x", fmt.Sprintf("%d %s", n, clienttest.Noise(500))); err != nil {
				return
			}
			n++
		}
	}
	publish(a, 90)
	clienttest.WaitFor(t, "all to be blocked", func() bool { return a.blocked() == 6 })
	handOver(t, a, b, 1, true)
	for i, cl := range readers { // what one has read, the others still need
		publish(b, 400)
		for k := range n {
			_, text, err := cl.Next()
			if number, _, _ := strings.Cut(text, " "); err != nil || number != fmt.Sprint(k) {
				t.Fatalf("reader %d: message %q (%v), want %d of %d", i, number, err, k, n)
			}
		}
	}
}

// What slow clients have not been sent is copied before the freeze, whichever loop they are on, and not in it.
func TestLogsAreCopiedBeforeTheFreeze(t *testing.T) {
	if *clienttest.OverTLS {
		t.Skip("connections with TLS cannot be handed over")
	}
	cfg := loopsConfig{PingInterval: -1, ChannelBuffer: 64 << 10, SendBuffer: 4 << 10, Loops: 3}
	a, b := startLoops(t, cfg), startLoops(t, cfg)
	var readers []*clienttest.Client
	for range 6 {
		readers = append(readers, clienttest.DialSmall(t, a, "/ws/x"))
	}
	const n = 90
	for i := range n {
		a.publish("x", fmt.Sprintf("%d %s", i, clienttest.Noise(500)))
	}
	clienttest.WaitFor(t, "all to be blocked", func() bool { return a.blocked() == 6 })
	a.quiet()
	f := freeze(t, a, b, nil)
	rest, records := f.snapshot.Rest(nil), f.giving.Save(nil)
	if most := 2 << 10; len(records) > most {
		t.Errorf("%d bytes are saved in the freeze, want at most %d", len(records), most)
	}
	f.take(rest, records)
	f.complete()
	for i, cl := range readers {
		for k := range n {
			_, text, err := cl.Next()
			if number, _, _ := strings.Cut(text, " "); err != nil || number != fmt.Sprint(k) {
				t.Fatalf("reader %d: message %q (%v), want %d of %d", i, number, err, k, n)
			}
		}
	}
}
