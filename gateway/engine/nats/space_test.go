package nats

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
	"sluice/gateway/engine/enginetest"
	"sluice/gateway/engine/nats/datadir"
	"sluice/gateway/engine/nats/natstest"
)

// TestRoom fills the file system up and empties it again.
func TestRoom(t *testing.T) {
	t.Parallel()
	s := diskRigIn(t, mount(t, 80<<20)+"/data")
	var looks atomic.Int64
	s.cfg.free = func(path string) (int64, error) {
		defer looks.Add(1)
		return datadir.Free(path)
	}
	s.start()
	if !s.e.room() {
		t.Fatal("no room in an empty file system")
	}
	filler := fill(t, s.dir+"/..", 63<<20)
	clienttest.WaitFor(t, "it is noticed that there is no room", func() bool { return !s.e.room() })
	if err := os.Truncate(filler, 10<<20); err != nil { // 70 MiB are left
		t.Fatal(err)
	}
	seen := looks.Load()
	clienttest.WaitFor(t, "it is looked at twice", func() bool { return looks.Load() >= seen+2 })
	if s.e.room() {
		t.Error("there is room again in the margin that keeps the state from flapping")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	clienttest.WaitFor(t, "it is noticed that there is room again", s.e.room)
	clienttest.WaitFor(t, "that is logged", func() bool { return len(s.log.lines("there is room again")) > 0 })
	for _, text := range []string{"low disk space", "there is room again"} {
		if n := len(s.log.lines(text)); n != 1 {
			t.Errorf("%d lines with %q, want 1: %q", n, text, s.log.lines(""))
		}
	}
}

// failing is a server that has met a full disk: it is tiny, and the free space is noticed too late. The disk
// is still full, and will not be without filler. last was acknowledged.
func failing(t *testing.T) (s *diskRig, filler string, last uint64) {
	t.Helper()
	s = diskRigIn(t, mount(t, 4<<20)+"/data")
	s.cfg.free = func(path string) (int64, error) { // as if it were larger
		free, err := datadir.Free(path)
		return free * 64, err
	}
	s.start()
	s.createLarge("S")
	s.publish("S", 100)
	filler, last = fill(t, s.dir+"/..", 64<<10), 100
	clienttest.WaitFor(t, "the error to be noticed", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if ack, err := s.js.Publish(ctx, "S.a", bytes.Repeat([]byte("y"), 4000)); err == nil {
			last = ack.Sequence
			s.e.acknowledged("S", last)
		}
		return len(s.log.lines("the store failed")) == 1
	})
	if s.e.room() {
		t.Error("there is room although the store failed")
	}
	return s, filler, last
}

// TestWriteError lets the server meet a full disk, after which it stores nothing until it is restarted.
func TestWriteError(t *testing.T) {
	t.Parallel()
	s, filler, last := failing(t)
	before := s.e.running()
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	clienttest.WaitFor(t, "it is restarted", s.e.room)
	if s.e.running() == before {
		t.Error("the server is the same")
	}
	clienttest.WaitFor(t, "the client is connected again", s.nc.IsConnected)
	s.publish("S", 100)
	if n := s.stored("S"); n < last+100 {
		t.Errorf("%d messages, want at least %d", n, last+100)
	}
	if g := s.e.generation(); g != 1 {
		t.Errorf("generation %d, want 1", g)
	}
	for _, text := range []string{"the store failed", "the embedded server was restarted"} {
		if n := len(s.log.lines(text)); n != 1 {
			t.Errorf("%d lines with %q, want 1", n, text)
		}
	}
	if other := len(s.log.lines("nats-server")); other > 0 {
		t.Errorf("lines of the server: %q", s.log.lines("nats-server"))
	}
	s.close()
	s.start()
	if g := s.e.generation(); g != 1 {
		t.Errorf("generation %d after a new start, want 1: %q", g, s.log.lines(""))
	}
}

// TestLossAtARestart loses acknowledged messages while the server is restarted: positions become invalid at
// once.
func TestLossAtARestart(t *testing.T) {
	t.Parallel()
	s, filler, last := failing(t)
	cut(t, s.blocks("S")[0], 40_000)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	clienttest.WaitFor(t, "it is restarted", s.e.room)
	if g := s.e.generation(); g == 1 {
		t.Error("the generation has not risen")
	}
	if n := len(s.log.lines(fmt.Sprintf("%d was acknowledged", last))); n != 1 {
		t.Errorf("log: %q, want one line about %d", s.log.lines(""), last)
	}
}

// Nobody is connected to a server that was restarted before it is known what it has lost.
func TestRestartIsSettledBeforeClients(t *testing.T) {
	n := newNode(t, func(c *Config) { c.DataDir = natstest.Dir(t) })
	ready(t, n)
	e := n.Engine.(*Engine).embedded
	newSender(t, n).publishes("x", "a")
	old, before := e.running(), e.generation()
	e.markOf("gone").acknowledged.Store(1)
	stop, early := make(chan struct{}), make(chan bool)
	go func() {
		found := false
		for {
			select {
			case <-stop:
				early <- found
				return
			default:
			}
			restarted := e.running() != old
			if c, err := e.InProcessConn(); err == nil {
				found = found || restarted && e.generation() == before
				c.Close() // ignored: it is not used
			}
		}
	}()
	old.Shutdown()
	e.serverFailed()
	clienttest.WaitFor(t, "the generation", func() bool { return e.generation() != before })
	close(stop)
	if <-early {
		t.Error("a client was connected before")
	}
}

// TestEngineOverAFullDisk publishes until the server meets a full disk, and goes on when there is room: what was
// acknowledged is in the history, in its order.
func TestEngineOverAFullDisk(t *testing.T) {
	t.Parallel()
	dir := mount(t, 4<<20)
	var noticed atomic.Bool
	n := newNode(t, func(c *Config) {
		c.DataDir = dir + "/data"
		c.test.free = func(path string) (int64, error) {
			if !noticed.Load() {
				return 1 << 30, nil // it is noticed too late
			}
			free, err := datadir.Free(path)
			return free * 64, err
		}
	})
	ready(t, n)
	p := engine.NewPublisher(n.Engine, n.Space, 64<<10)
	var acknowledged []channel.Receipt
	publish := func(size int) error {
		r, err := p.Publish(t.Context(), 0, "full", channel.Publication{Payload: bytes.Repeat([]byte("x"), size)})
		if err == nil {
			acknowledged = append(acknowledged, r)
		}
		return err
	}
	for range 20 {
		if err := publish(100); err != nil {
			t.Fatal(err)
		}
	}
	filler := fill(t, dir, 64<<10)
	var err error
	for err == nil {
		err = publish(4000)
	}
	if !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("error %v, want one that is temporary", err)
	}
	noticed.Store(true)
	clienttest.WaitFor(t, "publishing fails at once", func() bool { return errors.Is(publish(4000), engine.ErrAway) })
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	clienttest.WaitFor(t, "publishing goes on", func() bool { return publish(100) == nil })
	var got channel.Collected
	clienttest.WaitFor(t, "the history, which another connection reads", func() bool {
		got, err = engine.Wait(t.Context(), func(done func(channel.Collected, error)) {
			n.Engine.History(engine.HistoryQuery{Channel: "full", Most: channel.Bounds{Count: 1000, Bytes: 1 << 20}, Now: time.Now().UnixMilli()}, done)
		})
		return err == nil
	})
	kept := map[uint64]bool{}
	last := uint64(0)
	for _, p := range got.Publications {
		if p.Offset <= last {
			t.Errorf("offset %d after %d", p.Offset, last)
		}
		last, kept[p.Offset] = p.Offset, true
	}
	for _, r := range acknowledged[max(0, len(acknowledged)-enginetest.Keep("full").Count/2):] {
		if !kept[r.Offset] || r.Epoch != acknowledged[0].Epoch {
			t.Errorf("%v was acknowledged, and is not in the history", r)
		}
	}
}
