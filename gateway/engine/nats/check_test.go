package nats

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
	"sluice/gateway/engine/nats/natstest"

	natsserver "github.com/nats-io/nats-server/v2/server"
)

// While nodes get another configuration one after the other, some store what others do not, or elsewhere.
// Subscribers get everything all the same.
func TestNodesOfDifferentConfigurations(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t, natstest.Options{JetStream: true})
	for title, change := range map[string]func(c *Config){
		"no history":        func(c *Config) { c.Histories = nil },
		"another namespace": func(c *Config) { c.NamespaceOf = func(string) string { return "few" } },
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			c := startClusterWith(t, 2, func(c *Config) {
				if c.NodeID == 2 {
					change(c)
				}
			}, srv.URL())
			var readers []*watcher
			for _, n := range c.nodes {
				r := watch(t, n, "x")
				defer r.leave()
				readers = append(readers, r)
			}
			for _, payload := range []string{"a", "b", "c"} {
				for i, n := range c.nodes {
					newSender(t, n).publishes("x", payload+string(rune('1'+i)))
					for _, r := range readers {
						r.has(payload + string(rune('1'+i)))
					}
				}
			}
			for _, r := range readers {
				r.wants("from both nodes", "a1", "a2", "b1", "b2", "c1", "c2")
			}
		})
	}
}

// What a stream has dropped before a node that had missed it could read it is a gap. What it has dropped because it
// was old is not.
func TestDroppedBeforeItWasRead(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t, natstest.Options{JetStream: true})
	c := startCluster(t, 2, srv.URL())
	near, far := c.nodes[0], c.nodes[1]
	js, err := srv.Connect(t).JetStream()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		age  time.Duration
		lose int
		want []string
	}{
		{"x", 0, 1, []string{"a", "gap", "c"}},
		{"y", 25 * time.Hour, 0, []string{"a", "b", "c"}},
	} {
		s, r := newSender(t, near), watch(t, far, tt.name)
		defer r.leave()
		s.at = time.Now().Add(-tt.age)
		s.publishes(tt.name, "a")
		r.wants(tt.name, "a")
		resume := stopped(far)
		c.drops[1].lose(tt.name, tt.lose)
		s.publishes(tt.name, "b")
		e := far.Engine.(*Engine)
		s.publishes(neighbour(e, tt.name), "1")
		if err := js.PurgeStream(e.stream(tt.name).name); err != nil {
			t.Fatal(err)
		}
		resume()
		compared(t, e, tt.name)
		s.publishes(tt.name, "c")
		r.wants(tt.name, tt.want...)
	}
}

// What comes from a stream that may be another one since the connection broke is not appended to what came before.
func TestStreamThatMayBeAnotherOne(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t, natstest.Options{JetStream: true})
	c := startCluster(t, 1, srv.URL())
	e, s, r := c.nodes[0].Engine.(*Engine), newSender(t, c.nodes[0]), watch(t, c.nodes[0], "x")
	defer r.leave()
	s.publishes("x", "a")
	r.wants("before", "a")
	st := e.stream("x")
	resume := sync.OnceFunc(stopped(c.nodes[0])) // what it learns of the new stream comes behind the message
	defer resume()
	st.flow.unsure.Store(true)
	js, err := srv.Connect(t).JetStream()
	if err != nil {
		t.Fatal(err)
	}
	made, err := js.StreamInfo(st.name)
	if err == nil {
		err = js.DeleteStream(st.name)
	}
	if err == nil {
		_, err = js.AddStream(&made.Config)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{neighbour(e, "x"), "x"} {
		b := appendMessage(nil, &message{Publication: channel.Publication{Payload: []byte("b"), At: time.Now().UnixMilli()}})
		if _, err := js.Publish(st.subject(name), b); err != nil {
			t.Fatal(err)
		}
	}
	resume()
	r.wants("what comes from another stream", "a", "reset", "b")
}

// neighbour returns another channel of a channel's stream.
func neighbour(e *Engine, name string) string {
	for i := 0; ; i++ {
		if other := fmt.Sprint(name, i); e.stream(other) == e.stream(name) {
			return other
		}
	}
}

// compared has positions of a channel's stream compared, and waits until they are.
func compared(t *testing.T, e *Engine, name string) {
	t.Helper()
	st, l := e.stream(name), e.lane(name)
	s, err := st.state(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.post(func() { l.takeLive(); l.check(st, s, l.list) })
	clienttest.WaitFor(t, "positions that are compared", func() bool {
		left := make(chan int)
		l.post(func() { left <- l.comparing })
		return <-left == 0
	})
}

// A server that was set back to what it had before gives sequences again. That is another epoch, and what is
// published then is not taken for a repetition.
func TestStreamThatGoesBack(t *testing.T) {
	t.Parallel()
	var dir string
	srv := natstest.Start(t, natstest.Options{JetStream: true, Tune: func(o *natsserver.Options) { dir = o.StoreDir }})
	var log logLines
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(log.String())
		}
	})
	c := startClusterWith(t, 2, func(c *Config) { c.Logger = log.logger().With("node", c.NodeID) }, srv.URL())
	n := c.nodes[0]
	r, far := watch(t, n, "x"), watch(t, c.nodes[1], "x")
	defer r.leave()
	defer far.leave()
	s, backup := newSender(t, n), filepath.Join(t.TempDir(), "backup")
	restart := func(change func() error) {
		t.Helper()
		var before []uint64
		for _, n := range c.nodes {
			before = append(before, n.Engine.(*Engine).connection.Load())
		}
		srv.Stop()
		if err := change(); err != nil {
			t.Fatal(err)
		}
		srv.Restart()
		for i, n := range c.nodes {
			e := n.Engine.(*Engine)
			clienttest.WaitFor(t, "another connection", func() bool { s := e.Stats(); return e.connection.Load() > before[i] && s.Up() })
		}
	}
	s.publishes("x", "a")
	restart(func() error { return os.CopyFS(backup, os.DirFS(dir)) })
	before := s.publishes("x", "b", "c", "d", "e")
	r.wants("before", "a", "b", "c", "d", "e")
	far.wants("before", "a", "b", "c", "d", "e")
	restart(func() error {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		return os.CopyFS(dir, os.DirFS(backup))
	})
	s.publishes("x", "f")
	for _, r := range []*watcher{r, far} {
		r.has("reset") // with "f" before or behind it, or with "f" among what it says may be missed
	}
	if after := s.publishes("x", "g"); after.Epoch == before.Epoch {
		t.Errorf("%+v was published in the epoch of %+v", after, before)
	}
	r.has("g")
	far.has("g")
	var kept channel.Collected
	clienttest.WaitFor(t, "the history", func() (ok bool) {
		var err error
		kept, err = engine.Wait(t.Context(), func(done func(channel.Collected, error)) {
			n.Engine.History(engine.HistoryQuery{Channel: "x", Most: channel.Bounds{Count: -1}, Now: time.Now().UnixMilli()}, done)
		})
		return err == nil
	})
	got := ""
	for _, p := range kept.Publications {
		got += string(p.Payload)
	}
	if got != "afg" {
		t.Errorf("the history is %q, want afg", got)
	}
}

// What did not come before it was removed is a gap.
func TestRemovedBeforeItCame(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t, natstest.Options{JetStream: true})
	c := startCluster(t, 2, srv.URL())
	near, far := c.nodes[0], c.nodes[1]
	other := neighbour(far.Engine.(*Engine), "x")
	s, r := newSender(t, near), watch(t, far, "x")
	defer r.leave()
	s.publishes(other, "1") // so that the stream's front says nothing
	s.publishes("x", "a")
	r.wants("before", "a")
	resume := stopped(far)
	c.drops[1].lose("x", 1)
	s.publishes("x", "b")
	if _, err := engine.Wait(t.Context(), func(done func(struct{}, error)) {
		near.Engine.Remove("x", func(err error) { done(struct{}{}, err) })
	}); err != nil {
		t.Fatal(err)
	}
	resume()
	r.wants("after", "a", "gap")
	s.publishes("x", "c")
	r.wants("what follows", "a", "gap", "c")
}

// A channel that had no publication yet misses nothing when its first one is read from the stream, although the stream
// has dropped what was there when the channel began.
func TestFirstPublicationThatIsRead(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t, natstest.Options{JetStream: true})
	n := startCluster(t, 1, srv.URL()).nodes[0]
	e, s := n.Engine.(*Engine), newSender(t, n)
	s.publishes(neighbour(e, "x"), "1", "2")
	r := watch(t, n, "x")
	defer r.leave()
	s.publishes(neighbour(e, "x"), "3")
	js, err := srv.Connect(t).JetStream()
	if err == nil {
		err = js.PurgeStream(e.stream("x").name)
	}
	if err != nil {
		t.Fatal(err)
	}
	resume := stopped(n)
	if _, err := js.Publish(e.stream("x").subject("x"), appendMessage(nil, &message{Publication: channel.Publication{Payload: []byte("a"), At: time.Now().UnixMilli()}})); err != nil {
		t.Fatal(err)
	}
	l := e.lane("x")
	clienttest.WaitFor(t, "the message", func() bool { return len(l.live) > 0 })
	l.post(func() { l.catchUp(l.routes["x"]) }) // as when its head is seen before it
	resume()
	r.wants("the first one", "a")
	s.publishes("x", "b")
	r.wants("the next one", "a", "b")
}
