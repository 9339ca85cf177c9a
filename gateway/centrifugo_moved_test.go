package gateway

import (
	"context"
	"strings"
	"sync"
	"testing"

	"sluice/gateway/clienttest"
	"sluice/gateway/loop"

	"golang.org/x/sys/unix"
)

// duplicates passes connections to the loops of another server.
type duplicates struct {
	to *loop.Taking // as if one goroutine called it

	mu  sync.Mutex
	ids []uint64 // guarded by mu
}

// Pass implements loop.Passer.
func (d *duplicates) Pass(ids []uint64, fds []int) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ids = append(d.ids, ids...)
	var dups []int
	for _, fd := range fds {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return false, err
		}
		dups = append(dups, dup)
	}
	return true, d.to.Add(ids, dups)
}

// Gone implements loop.Passer.
func (d *duplicates) Gone(ids []uint64) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.to.Gone(ids)
	return true, nil
}

// Joins and leaves that wait for room when another process takes over are published there, in their order.
func TestJoinsThatWaitAreHandedOver(t *testing.T) {
	clienttest.PlainOnly(t)
	t.Parallel()
	for _, complete := range []bool{true, false} {
		cfg := Config{ChannelBuffer: 16 << 10, MaxMessage: 4 << 10, PingInterval: -1, Loops: 1, History: -1}
		a, b := start(t, cfg), start(t, cfg)
		h := clienttest.HoldFull(t, a.space, "x", 1000)
		ctx, cancel := context.WithTimeout(context.Background(), clienttest.Patience)
		defer cancel()
		published := make(chan error, 1)
		go func() {
			_, err := a.Publish(ctx, Message{Channel: "x", Payload: []byte(clienttest.Stars(1000))})
			published <- err
		}()
		clienttest.WaitFor(t, "the publisher to wait", func() bool { return a.space.Find("x").Waiting() == 1 })
		watcher := member(t, a, "")
		watcher.Joins("x", `"join_leave":true`)
		guest := member(t, a, "")
		guest.Joins("x")
		guest.Vanish()
		clienttest.WaitFor(t, "the guest to be gone", func() bool { return a.edge.Counts().Connections == 1 })
		to := b.set.Take()
		out := &duplicates{to: to}
		g, passed := a.set.Give(out)
		clienttest.Receive(t, "all to be passed", passed)
		snapshot := a.space.Snapshot()
		if err := g.Freeze(ctx); err != nil {
			t.Fatal(err)
		}
		if complete {
			rest, records := snapshot.Rest(nil), g.Save(nil)
			if err := b.space.Restore(rest); err != nil {
				t.Fatal(err)
			}
			if _, err := to.Load(records); err != nil {
				t.Fatal(err)
			}
			b.space.Restored()
			to.Start()
			g.Given(0)
			for _, id := range out.ids { // what protocols keep goes with their process
				a.present.Remove("x", id)
			}
		} else {
			to.Abandon()
			g.Thaw()
		}
		a.space.Leave(&h.Reader) // there is room
		var got []string
		for len(got) < 3 {
			switch p := watcher.Told("who comes and goes"); {
			case strings.Contains(p, `"join":`):
				got = append(got, "join")
			case strings.Contains(p, `"leave":`):
				got = append(got, "leave")
			}
		}
		if got := strings.Join(got, " "); got != "join join leave" {
			t.Errorf("complete: %v: %s", complete, got)
		}
		if err := <-published; err != nil {
			t.Error(err)
		}
	}
}
