package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
	"sluice/gateway/wire"
)

// engineFunc is an engine that is in the way of another.
type engineFunc func(ch *channel.Channel, c engine.Caller, publish func() (channel.Receipt, error)) (channel.Receipt, error)

// before puts f before the server's engine for those who publish from outside.
func (s *server) before(f engineFunc) { s.publisher.Engine = interposed{s.publisher.Engine, f} }

type interposed struct {
	engine.Engine
	f engineFunc
}

func (e interposed) Publish(name string, ch *channel.Channel, p *channel.Publication, s *channel.Scratch, c engine.Caller) (channel.Receipt, error) {
	return e.f(ch, c, func() (channel.Receipt, error) { return e.Engine.Publish(name, ch, p, s, c) })
}

// deaf is a subscriber that never reads.
type deaf struct{}

func (deaf) Notify() {}

// A channel that a publisher did not find, and that is full a moment later, must
// not keep it as a waiter of whom nobody knows.
func TestChannelThatAppearsWhileSomebodyPublishes(t *testing.T) {
	t.Parallel()
	s := start(t, Config{History: -1, Loops: 1})
	var reader channel.Reader
	s.before(func(ch *channel.Channel, _ engine.Caller, publish func() (channel.Receipt, error)) (channel.Receipt, error) {
		if ch != nil {
			t.Error("the channel is there already: the test shows nothing")
		}
		if err := s.space.Join("x", wire.Raw{}, deaf{}, &reader); err != nil {
			t.Error(err)
		}
		full, scratch := channel.Publication{Payload: make([]byte, 1000)}, new(channel.Scratch)
		for {
			if _, err := s.space.Find("x").Publish(&full, scratch, nil); err != nil {
				break
			}
		}
		return publish()
	})
	defer func() { s.space.Leave(&reader) }()
	ctx, cancel := context.WithTimeout(context.Background(), clienttest.Patience)
	defer cancel()
	r, err := s.Publish(ctx, Message{Channel: "x", Payload: []byte("text")})
	if err != nil || r != (Receipt{}) {
		t.Errorf("got %+v, %v; want that nobody had the channel", r, err)
	}
}

// An engine may be without room where this node does not have the channel.
func TestEngineMayPushBackWithoutAChannel(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Loops: 1})
	asked := 0
	s.before(func(_ *channel.Channel, c engine.Caller, publish func() (channel.Receipt, error)) (channel.Receipt, error) {
		if asked++; asked > 1 {
			return publish()
		}
		c.Released()
		return channel.Receipt{}, channel.ErrFull
	})
	if s.publish("x", "again"); asked != 2 {
		t.Errorf("the engine was asked %d times, want once more after it had room", asked)
	}
	s.before(func(*channel.Channel, engine.Caller, func() (channel.Receipt, error)) (channel.Receipt, error) {
		return channel.Receipt{}, channel.ErrFull
	})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Publish(ctx, Message{Channel: "x", Payload: []byte("never")}); !errors.Is(err, ErrPushedBack) {
		t.Errorf("got %v, want ErrPushedBack", err)
	}
}

// away is an engine whose store cannot be reached: it answers so at once, or later.
type away struct {
	engine.Engine
	later bool
}

// answer calls done, perhaps from another goroutine.
func (e away) answer(done func()) {
	if !e.later {
		done()
		return
	}
	go done()
}

func (e away) Publish(_ string, _ *channel.Channel, _ *channel.Publication, _ *channel.Scratch, c engine.Caller) (channel.Receipt, error) {
	if !e.later {
		return channel.Receipt{}, engine.ErrUnavailable
	}
	go c.Published(channel.Receipt{}, engine.ErrUnavailable)
	return channel.Receipt{}, engine.ErrPending
}

func (e away) History(_ engine.HistoryQuery, done func(channel.Collected, error)) {
	e.answer(func() { done(channel.Collected{}, engine.ErrUnavailable) })
}

func (e away) Presence(_ string, _ int, done func(engine.Presence, error)) {
	e.answer(func() { done(engine.Presence{}, engine.ErrUnavailable) })
}

func (e away) Remove(_ string, done func(error)) {
	e.answer(func() { done(engine.ErrUnavailable) })
}

func (e away) Info(done func(engine.Nodes, error)) {
	e.answer(func() { done(engine.Nodes{}, engine.ErrUnavailable) })
}

// Backends learn that an engine is unavailable as something that passes: 503, and when to try again.
func TestUnavailableEngineOverHTTP(t *testing.T) {
	t.Parallel()
	s := start(t, guarded(t, rightsFile))
	for _, later := range []bool{false, true} {
		s.publisher.Engine = away{s.engine, later}
		s.node.Engine = s.publisher.Engine
		if _, err := s.Publish(t.Context(), Message{Channel: "look:x", Payload: []byte("x")}); !errors.Is(err, ErrUnavailable) {
			t.Errorf("Publish: %v, want ErrUnavailable", err)
		}
		ask := func(path, body string) *httptest.ResponseRecorder {
			t.Helper()
			r := httptest.NewRequest("POST", "http://127.0.0.1"+path, strings.NewReader(body))
			r.Header.Set("X-Centrifugo-Error-Mode", "transport")
			w := httptest.NewRecorder()
			s.InternalHandler(Internal{}).ServeHTTP(w, r)
			if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "1" || !strings.Contains(w.Body.String(), "the engine is unavailable") {
				t.Errorf("%s: got %d, %s; want 503, to be tried again, and the reason", path, w.Code, w.Body)
			}
			return w
		}
		wantError(t, "POST /publish", ask("/publish/look:x", "x").Body.String(), "unavailable")
		for _, method := range []string{"publish", "history", "presence", "presence_stats", "history_remove"} {
			ask("/api/"+method, `{"channel":"look:x","data":1}`)
		}
		if info := s.api("info", ``); !strings.Contains(info, `"uptime":`) || !strings.HasSuffix(info, `"partial":true}}`) {
			t.Errorf("info: got %s, want this node, and that others may be missing", info)
		}
	}
}
