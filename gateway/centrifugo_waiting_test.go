package gateway

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"sluice/gateway/access/auth"
	"sluice/gateway/clienttest"
	"sluice/gateway/hook"
)

// Joins that find somebody else publishing come when that is over, in their order.
func TestJoinsWaitForTheTurn(t *testing.T) {
	t.Parallel()
	cfg := guarded(t, `{"without_namespace":{"allow_subscribe_for_client":true,"join_leave":true,"force_push_join_leave":true}}`)
	cfg.Loops = 1
	s := start(t, cfg)
	reader := member(t, s, tokens(t, auth.Claims{User: "reader"}))
	reader.Joins("x")
	reader.Told("its own join")
	f := clienttest.JoinStuck(t, s.space, "x")
	done := make(chan error, 1)
	go func() {
		_, err := s.Publish(context.Background(), Message{Channel: "x", Payload: []byte(`"first"`)})
		done <- err
	}()
	clienttest.Receive(t, "the encoding to begin", f.Entered)
	other := member(t, s, tokens(t, auth.Claims{User: "other"}))
	for range 3 {
		other.Joins("x")
		other.Does(`{"id":3,"unsubscribe":{"channel":"x"}}`)
		for !strings.Contains(other.Told("unsubscribe"), `"unsubscribe"`) {
		}
	}
	close(f.Release)
	go func() {
		for range f.Entered {
		}
	}()
	if err := clienttest.Receive(t, "the publication", done); err != nil {
		t.Error(err)
	}
	want := []string{"pub", "join", "leave", "join", "leave", "join", "leave"}
	for _, what := range want {
		if got := reader.Told(what); !strings.Contains(got, `"`+what+`":`) {
			t.Fatalf("got %s, want a %s", got, what)
		}
	}
	s.space.Leave(&f.Reader)
	close(f.Entered)
}

// Commands that publish wait for a log that takes three messages, each decoded once, and all
// are answered.
func TestWaitingCommandsAreTriedOnce(t *testing.T) {
	t.Parallel()
	const publishers, size = 100, 16 << 10
	s := start(t, Config{Loops: 2, MaxMessage: 20 << 10, ChannelBuffer: 64 << 10})
	h := clienttest.HoldFull(t, s.space, "x", size)
	all := make([]*clienttest.Client, publishers)
	for i := range all {
		all[i] = member(t, s, "")
		all[i].Does(fmt.Sprintf(`{"id":7,"publish":{"channel":"x","data":"%03d%s"}}`, i, clienttest.Stars(size)))
	}
	clienttest.WaitFor(t, "all to wait", func() bool { return s.space.Find("x").Waiting() == publishers })
	before, held := s.PushBacks(), s.Held()
	most := int64(publishers * (size + 4<<10))
	if *clienttest.OverTLS {
		most += publishers * (16 << 10) // crypto/tls keeps a record that has begun
	}
	if held > most {
		t.Errorf("%d bytes are held for what waits, want %d at most", held, most)
	}
	stop := h.Serve()
	for _, c := range all {
		c.WantTold("it was taken", `{"id":7,"publish":{}}`)
	}
	if n := s.PushBacks() - before; n > publishers/2 {
		t.Errorf("%d commands were refused %d more times, want hardly any", publishers, n)
	}
	stop()
	s.space.Leave(&h.Reader)
}

// The reply to a large publication, which an encoder encodes, comes before that of the next
// command.
func TestLargeCommandIsAnsweredInItsTurn(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Loops: 1, MaxMessage: 2 << 20, ChannelBuffer: 8 << 20, MaxPending: 8 << 20})
	reader, c, payload := clienttest.Dial(t, s, "/ws/x"), member(t, s, ""), `"`+clienttest.Stars(1<<20)+`"`
	c.Does(fmt.Sprintf(`{"id":7,"publish":{"channel":"x","data":%s}}`, payload), `{"id":8,"publish":{"channel":"x","data":"behind"}}`)
	reader.WantText("it was encoded", payload)
	reader.WantText("the next", `"behind"`)
	c.WantTold("the large one", `{"id":7,"publish":{}}`)
	c.WantTold("the one behind it", `{"id":8,"publish":{}}`)
}

// The hook sees each message once, also where its channel has no room at first.
func TestHookSeesAMessageThatWaitsOnce(t *testing.T) {
	clienttest.UncompressedOnly(t)
	t.Parallel()
	var seen atomic.Int64
	s := start(t, Config{ChannelBuffer: 16 << 10, MaxMessage: 4 << 10, SendBuffer: 4 << 10, PingInterval: -1, Loops: 1, History: -1,
		Hooks: filter(func(hook.FilterRequest) bool { seen.Add(1); return true })})
	s.Clock.Slow() // the reader reads in the end
	reader := clienttest.ConnectWith(t, s, 4<<10)
	reader.Upgrade("/ws/x")
	c := member(t, s, "")
	const n = 40
	for i := range n {
		c.Does(fmt.Sprintf(`{"id":%d,"publish":{"channel":"x","data":%q}}`, i+2, strings.Repeat("x", 1000)))
	}
	clienttest.WaitFor(t, "the channel to push back", func() bool { return s.PushBacks() > 0 })
	for range n {
		reader.WantText("each once", `"`+strings.Repeat("x", 1000)+`"`)
	}
	for i := range n {
		c.WantTold("published", fmt.Sprintf(`{"id":%d,"publish":{}}`, i+2))
	}
	if got := seen.Load(); got != n {
		t.Errorf("the hook saw %d messages, want %d", got, n)
	}
}

// The hook sees what a client publishes after a command that waited for room, and that was
// refused when it was done again: its permission was gone.
func TestHookSeesWhatComesAfterARefusedCommand(t *testing.T) {
	t.Parallel()
	cfg := guarded(t, `{"without_namespace":{"allow_subscribe_for_client":true,"allow_publish_for_subscriber":true}}`)
	cfg.ChannelBuffer, cfg.MaxMessage = 16<<10, 4<<10
	cfg.Hooks = filter(func(m hook.FilterRequest) bool { return !strings.Contains(string(m.Payload), "spam") })
	s := start(t, cfg)
	h := clienttest.HoldFull(t, s.space, "x", 1000)
	c := member(t, s, tokens(t, auth.Claims{User: "42"}))
	c.Joins("x")
	c.Does(fmt.Sprintf(`{"id":10,"publish":{"channel":"x","data":%q}}`, strings.Repeat("x", 1000)))
	clienttest.WaitFor(t, "it to wait", func() bool { return s.space.Find("x").Waiting() == 1 })
	s.wantAPI("unsubscribe", `{"user":"42","channel":"x"}`, `{"result":{}}`)
	s.space.Leave(&h.Reader) // there is room
	for !strings.HasPrefix(c.Told("it is refused"), `{"id":10,"error":{"code":103,`) {
	}
	c.Joins("x")
	c.Does(`{"id":3,"publish":{"channel":"x","data":"spam"}}`)
	c.WantTold("the hook does not let it pass", `{"id":3,"error":{"code":103,"message":"permission denied"}}`)
}
