package nats

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
	"sluice/gateway/engine/nats/natstest"

	natsgo "github.com/nats-io/nats.go"
)

// A mark that goes over another connection than the messages before it says nothing of them.
func TestConnectionThatBreaksBeforeTheMark(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t, natstest.Options{})
	var e *Engine
	var once sync.Once
	again := func() {
		once.Do(func() {
			before := e.link.main.Stats().Reconnects
			if err := e.link.main.ForceReconnect(); err != nil {
				t.Error(err)
			}
			clienttest.WaitFor(t, "another connection", func() bool { return e.link.main.IsConnected() && e.link.main.Stats().Reconnects > before })
		})
	}
	begun := make(chan struct{})
	n := startClusterWith(t, 1, func(c *Config) {
		c.Histories = nil
		c.test.unmarked = func() {
			select {
			case <-begun:
				again()
			default:
			}
		}
	}, srv.URL()).nodes[0]
	e = n.Engine.(*Engine)
	close(begun)
	s := newSender(t, n)
	if err := s.sends("none", "a"); err != engine.ErrPending {
		t.Fatal(err)
	}
	if got := clienttest.Receive(t, "the answer", s.answers); got.err != engine.ErrUnavailable {
		t.Errorf("a message before the connection broke: %v, want ErrUnavailable", got.err)
	}
	clienttest.WaitFor(t, "the engine", func() bool { s := e.Stats(); return s.Up() })
	s.publishes("none", "b")
}

// What has timed out while it was being sent is not answered again when that fails.
func TestTimedOutWhileItWasSent(t *testing.T) {
	t.Parallel()
	w := window{messages: make(map[uint64]*pending), marks: make(map[uint64]*mark), order: make(map[*stream]*pending)}
	p := &pending{st: new(stream)}
	token := w.add([]*pending{p}, &mark{sent: time.Now()})
	if stuck, _ := w.expired(time.Now().Add(time.Second)); len(stuck) != 1 {
		t.Fatalf("%d have timed out", len(stuck))
	}
	if w.take(token) != nil {
		t.Error("it is answered twice")
	}
	if w.expired(time.Now().Add(time.Second)); w.waits() {
		t.Error("its answer is waited for")
	}
}

// A mark may come back before the sending goroutine has noted it.
func TestMarkThatIsFast(t *testing.T) {
	t.Parallel()
	w := window{marks: make(map[uint64]*mark)}
	for _, tt := range []struct{ sent, comes bool }{{true, false}, {true, true}, {false, false}} {
		mk := new(mark)
		token := w.beginMark()
		if tt.comes && w.takeMark(token) != nil {
			t.Error("it was taken before it was there")
		}
		if came := w.addMark(token, mk, tt.sent); came != tt.comes {
			t.Errorf("%+v: came: %v", tt, came)
		}
		if got := w.takeMark(token) == mk; got != (tt.sent && !tt.comes) {
			t.Errorf("%+v: taken later: %v", tt, got)
		}
	}
}

// What a stream refuses because of the message does not make it look away.
func TestRefusedMessage(t *testing.T) {
	t.Parallel()
	var answer sync.Map
	n := newNode(t, func(c *Config) {
		c.DataDir, c.test.withhold = natstest.Dir(t), func(m *natsgo.Msg) bool {
			if text, ok := answer.Load("next"); ok && len(m.Data) > 0 {
				m.Data = []byte(text.(string))
			}
			return false
		}
	})
	ready(t, n)
	s := newSender(t, n)
	for text, want := range map[string]error{
		`{"error":{"code":409,"err_code":10158,"description":"duplicate message id is in process"},"stream":"X","seq":0}`:   engine.ErrUnavailable,
		`{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"},"stream":"X","seq":0}`: channel.ErrTooBig,
	} {
		answer.Store("next", text)
		if err := s.sends("x", "a"); err != engine.ErrPending {
			t.Fatal(err)
		}
		if got := clienttest.Receive(t, "the answer", s.answers); got.err != want {
			t.Errorf("%s: %v, want %v", text, got.err, want)
		}
		if s := n.Engine.(*Engine).Stats(); !s.Up() {
			t.Errorf("%s: the engine is down", text)
		}
	}
	answer.Delete("next")
	s.publishes("x", "b")
}

// What another stream says that it has stored is not in the channel's history.
func TestAnswerOfAnotherStream(t *testing.T) {
	t.Parallel()
	var other atomic.Bool
	n := newNode(t, func(c *Config) {
		c.DataDir, c.test.withhold = natstest.Dir(t), func(m *natsgo.Msg) bool {
			if len(m.Data) > 0 && other.Swap(false) {
				m.Data = []byte(`{"stream":"OTHER","seq":17}`)
			}
			return false
		}
	})
	ready(t, n)
	s := newSender(t, n)
	other.Store(true)
	if err := s.sends("x", "a"); err != engine.ErrPending {
		t.Fatal(err)
	}
	if got := clienttest.Receive(t, "the answer", s.answers); got.err != engine.ErrAway {
		t.Errorf("the answer is %+v, want ErrAway", got)
	}
	clienttest.WaitFor(t, "the stream is there again", func() bool { s := n.Engine.(*Engine).Stats(); return s.Up() })
	s.publishes("x", "b")
}

// Publications that are sent and not answered are bounded by their bytes, too.
func TestUnansweredBytes(t *testing.T) {
	t.Parallel()
	n, w := startWithheld(t, time.Hour)
	w.set(true)
	s, payload, accepted := newSender(t, n), strings.Repeat("x", 60<<10), 0
	var err error
	for err == nil || err == engine.ErrPending {
		if accepted += len(payload); accepted > 3*queueBytesMost {
			t.Fatalf("%d bytes wait for answers", accepted)
		}
		if err = s.sends("x", payload); err != engine.ErrPending {
			break
		}
		clienttest.WaitFor(t, "what is sent", func() bool {
			l := n.Engine.(*Engine).lane("x")
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.queue.len() == 0 || l.fullLocked() || l.gathersLocked()
		})
	}
	if err != channel.ErrFull {
		t.Error(err)
	}
	w.pass(n.Engine.(*Engine))
	clienttest.Receive(t, "room", s.released)
}
