package channel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// calls is an Attacher, and a Holder's or a Subscriber's, that records what is called.
type calls struct{ got []string }

func (a *calls) Attach(c *Channel) { a.got = append(a.got, "attach "+c.Name()) }
func (a *calls) Detach(c *Channel) { a.got = append(a.got, "detach "+c.Name()) }
func (a *calls) Fill(c *Channel)   { a.got = append(a.got, "fill "+c.Name()) }

// preparer is a Holder that records its calls there.
type preparer struct {
	*calls
	name string
}

func (h *preparer) Prepared(err error) { h.got = append(h.got, fmt.Sprintf("%s: %v", h.name, err)) }

// remote is a remote space with its engine.
type remote struct {
	*testing.T
	*Space
	calls
}

// newRemote returns a remote space that keeps the newest n publications.
func newRemote(t *testing.T, n int) *remote {
	s := &remote{T: t, Space: NewSpace(1<<10, 100, NewBudget(1<<20))}
	s.KeepHistory(History{Of: func(string) Keep { return Keep{Count: n, TTL: 1 << 40} }, Bytes: 1 << 20, Budget: NewBudget(1 << 20)}, 0)
	s.Remote(&s.calls, nil)
	return s
}

func (s *remote) holder(name string) *preparer { return &preparer{calls: &s.calls, name: name} }

// want checks what was called since it was called last.
func (s *remote) want(why string, want ...string) {
	s.Helper()
	slices.Sort(s.got)
	slices.Sort(want)
	if diff := cmp.Diff(want, s.got); diff != "" {
		s.Fatalf("%s: calls (-want +got):\n%s", why, diff)
	}
	s.got = nil
}

func (s *remote) prepare(ask Ask, w Holder, want bool) {
	s.Helper()
	if ready, err := s.Prepare("x", &ask, w); ready != want || err != nil {
		s.Fatalf("ready: %v, %v, want %v", ready, err, want)
	}
}

// sent returns a publication of an engine.
func sent(e Epoch, prev, offset uint64) *Publication {
	return &Publication{Payload: fmt.Appendf(nil, "%v:%d", e, offset), Epoch: e, Prev: prev, Offset: offset}
}

func (s *remote) give(c *Channel, p *Publication) {
	s.Helper()
	c.Append(p, new(Scratch))
}

// wantHistory checks the history since a position: epoch:offset of each, and in front "gap" if there is one.
func (s *remote) wantHistory(why string, c *Channel, ask Ask, want ...string) {
	s.Helper()
	kept := c.Collect(ask, Bounds{Count: -1}, 0)
	var got []string
	if kept.Gap {
		got = append(got, "gap")
	}
	prev := kept.From.Offset
	for i := range kept.Publications {
		p := &kept.Publications[i]
		if got = append(got, string(p.Payload)); p.Prev != prev || string(p.Payload) != fmt.Sprintf("%v:%d", p.Epoch, p.Offset) {
			s.Errorf("%s: %q has the position %v:%d after %d, behind %d", why, p.Payload, p.Epoch, p.Offset, p.Prev, prev)
		}
		prev = p.Offset
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.Errorf("%s: history (-want +got):\n%s", why, diff)
	}
}

func since(e Epoch, offset uint64) Ask { return Ask{Kind: AskSince, At: Position{e, offset}} }

var now = Ask{Kind: AskNow}

// telling is a format whose frames say what they are, gaps included; what it wraps says how long they are.
type telling struct{ padded }

func (f telling) Append(dst []byte, p *Publication) []byte {
	switch p.Kind {
	case KindGap:
		return f.padded.Append(dst, &Publication{Payload: fmt.Appendf(nil, "gap %d:%d", p.Epoch, p.Prev)})
	case KindReset:
		return f.padded.Append(dst, &Publication{Payload: fmt.Appendf(nil, "reset %d:%d", p.Epoch, p.Prev)})
	}
	return f.padded.Append(dst, p)
}

// mute is a format that cannot tell gaps.
type mute struct{ padded }

func (f mute) Append(dst []byte, p *Publication) []byte {
	if p.Kind != KindMessage {
		return dst
	}
	return f.padded.Append(dst, p)
}

// follower is a subscriber that reads what there is, up to n bytes in one go.
type follower struct {
	*member
	cursor uint64
	bytes  []byte
	seen   []string
}

func (s *remote) follow(f Format) *follower {
	s.Helper()
	m := join(s, s.Space, "x", f)
	return &follower{member: m, cursor: m.Log().Head()}
}

// read reads all that there is, over fences, which it notes in brackets.
func (f *follower) read(n int) {
	f.Clear()
	head := f.Log().Head()
	for f.cursor < head {
		v, _ := f.View(f.cursor)
		to := v.Fit(f.cursor, head, n)
		kind, behind := v.Fence(f.cursor)
		if (to == f.cursor) != (kind != KindMessage) {
			panic(fmt.Sprintf("at %d: %d fit, and there is a fence of kind %d", f.cursor, to-f.cursor, kind))
		}
		if kind != KindMessage {
			f.frames()
			f.seen = append(f.seen, [...]string{KindGap: "[gap]", KindReset: "[reset]"}[kind])
			f.cursor = behind
			continue
		}
		a, b := v.Bytes(f.cursor, to)
		f.bytes = append(append(f.bytes, a...), b...)
		f.cursor = to
	}
	f.frames()
	f.Served(f.cursor)
}

// frames notes the frames that were read.
func (f *follower) frames() {
	for len(f.bytes) > 0 {
		size := binary.BigEndian.Uint32(f.bytes)
		f.seen = append(f.seen, string(f.bytes[lengthBytes:size]))
		f.bytes = f.bytes[size:]
	}
}

func (s *remote) wantSeen(why string, f *follower, want ...string) {
	s.Helper()
	f.read(1 << 10)
	if diff := cmp.Diff(want, f.seen); diff != "" {
		s.Errorf("%s: it has seen (-want +got):\n%s", why, diff)
	}
	f.seen = nil
}

func TestLocalChannelsAreAlwaysReady(t *testing.T) {
	s := NewSpace(1<<10, 1, NewBudget(1<<20))
	w := &preparer{calls: new(calls)}
	if n := testing.AllocsPerRun(100, func() {
		if ready, err := s.Prepare("x", &now, w); !ready || err != nil {
			t.Fatal(ready, err)
		}
		s.Release("x", w)
	}); n != 0 || s.Channels() != 0 {
		t.Errorf("%v allocations, %d channels", n, s.Channels())
	}
}

// mix makes a space remote, but no channel of it except those whose names begin with "remote". What is called
// is recorded.
func mix(s *Space) *calls {
	called := new(calls)
	s.Remote(called, func(name string) bool { return strings.HasPrefix(name, "remote") })
	return called
}

// A local channel of a remote space is as one of a local space: it is kept with its history while nobody
// reads it, gives way to others, and its epochs go on.
func TestLocalChannelOfARemoteSpace(t *testing.T) {
	run := func(mixed bool) (seen []string) {
		s := NewSpace(1<<10, 3, NewBudget(1<<20))
		s.KeepHistory(History{Of: func(string) Keep { return Keep{Count: 2, TTL: 10} }, Bytes: 1 << 20, Budget: NewBudget(1 << 20)}, 0)
		called := new(calls)
		if mixed {
			called = mix(s)
		}
		note := func(what string, values ...any) {
			seen = append(seen, fmt.Sprint(what, values, s.Channels(), s.history.Budget.Used()))
		}
		w := &preparer{calls: called}
		ready, err := s.Prepare("x", &now, w)
		note("prepared", ready, err, s.Local("x"), s.Keeps("x"), s.Find("x") == nil)
		s.Release("x", w)
		next := s.Next("x")
		c, err := s.Open("x")
		note("opened", err, c.Newest() == next)
		for i := range 3 {
			r, err := c.Publish(&Publication{Payload: []byte("text"), At: int64(i)}, new(Scratch), nil)
			note("published", r.Offset, r.Epoch == next.Epoch, err)
		}
		m := join(t, s, "x", padded(0))
		kept, _ := m.Collect(since(next.Epoch, 0), Bounds{Count: -1}, 3)
		note("kept", kept.Gap, len(kept.Publications), kept.Newest.Offset)
		ahead, _ := m.Collect(since(next.Epoch, 4), Bounds{Count: -1}, 3)
		note("ahead", ahead.Gap, len(ahead.Publications))
		s.Leave(&m.Reader)
		note("left", s.Find("x") == c)
		for i := range 4 {
			other, err := s.Open(fmt.Sprint("other", i))
			note("others", err, other != nil, s.Find("x") == c)
		}
		note("gone", s.Next("x") == next)
		s.now.Store(0)
		for i := range int64(2 * trimPart) {
			s.Trim(100 + i)
		}
		note("trimmed")
		if len(called.got) > 0 {
			t.Errorf("the engine was called: %q", called.got)
		}
		return seen
	}
	if diff := cmp.Diff(run(false), run(true)); diff != "" {
		t.Errorf("in a local and in a mixed space:\n%s", diff)
	}
}

// Beside local channels a remote one is as in a space that is wholly remote.
func TestRemoteChannelOfAMixedSpace(t *testing.T) {
	s := newRemote(t, 10)
	called := mix(s.Space)
	w := &preparer{calls: called, name: "a"}
	next := s.Next("x")
	ready, err := s.Prepare("remote", &now, w)
	if ready || err != nil || s.Local("remote") || s.Keeps("remote") || !s.Keeps("x") {
		t.Errorf("ready %v, %v; local %v, keeps %v", ready, err, s.Local("remote"), s.Keeps("remote"))
	}
	s.Find("remote").Attached(Position{7, 5})
	s.Release("remote", w)
	if want := []string{"attach remote", "a: <nil>", "detach remote"}; !slices.Equal(called.got, want) || s.Channels() != 0 {
		t.Errorf("called %q, want %q; %d channels", called.got, want, s.Channels())
	}
	if s.Next("x") != next {
		t.Error("a remote channel that ends makes local ones begin anew")
	}
}

// A channel attaches for its first holder, and ends with the last one or its last reader.
func TestRemoteChannelLivesWhileItIsHeldOrRead(t *testing.T) {
	s := newRemote(t, 10)
	a, b := s.holder("a"), s.holder("b")
	if err := s.Join("x", mute{}, new(counting), new(Reader)); err != ErrAttaching || s.Channels() != 0 {
		t.Fatalf("joined without having prepared: %v, %d channels", err, s.Channels())
	}
	s.prepare(now, a, false)
	s.prepare(now, b, false)
	s.want("two prepare", "attach x")
	if err := s.Join("x", mute{}, new(counting), new(Reader)); err != ErrAttaching || s.Channels() != 1 {
		t.Fatalf("joined while it is attaching: %v, %d channels", err, s.Channels())
	}
	c := s.Find("x")
	c.Attached(Position{7, 5})
	s.want("it has attached", "a: <nil>", "b: <nil>")
	if c.Newest() != (Position{7, 5}) || c.Epoch() != 7 {
		t.Errorf("it is at %v", c.Newest())
	}
	s.prepare(now, a, true)
	f := s.follow(mute{})
	s.Release("x", a)
	s.Release("x", b)
	s.Release("x", b)
	s.want("it is read")
	s.give(c, sent(7, 5, 9))
	s.Leave(&f.Reader)
	s.want("its last reader has left", "detach x")
	if s.Channels() != 0 || s.Find("x") != nil || s.history.Budget.Used() != 0 || s.budget.Used() != 0 {
		t.Errorf("%d channels are left, with %d and %d bytes", s.Channels(), s.history.Budget.Used(), s.budget.Used())
	}
	s.give(c, sent(7, 9, 10))
	c.Attached(Position{8, 1})
	c.Filled(nil, Position{8, 1}, c.Newest())
	c.Failed(errors.New("late"))
	s.prepare(now, a, false)
	s.want("it is opened again", "attach x")
	s.Release("x", a)
	s.want("it has gone without an answer", "detach x")
}

func TestFailedAttachEndsTheChannel(t *testing.T) {
	s := newRemote(t, 10)
	a, b := s.holder("a"), s.holder("b")
	s.prepare(now, a, false)
	s.prepare(since(7, 1), b, false)
	c := s.Find("x")
	c.Failed(errors.New("away"))
	s.want("it failed", "attach x", "a: away", "b: away", "detach x")
	s.Release("x", a)
	c.Attached(Position{7, 5})
	s.prepare(now, a, false)
	s.want("the next one tries again", "attach x")
	s.Release("x", b)
	s.Find("x").Attached(Position{7, 5})
	s.want("with success", "a: <nil>")
	s.Find("x").Failed(errors.New("nothing was asked"))
	s.want("nobody waits")
}

// What is appended while the channel is attaching is kept, but for what was in the order then.
func TestAppendWhileAttaching(t *testing.T) {
	big := func(offset uint64) *Publication {
		p := sent(7, offset-1, offset)
		p.Extra = make([]byte, 600)
		return p
	}
	for _, tt := range []struct {
		name     string
		appended []*Publication
		at       Position
		newest   Position
		floor    uint64
		want     []string
	}{
		{"nothing", nil, Position{7, 5}, Position{7, 5}, 5, nil},
		{"below and above", []*Publication{sent(7, 1, 3), sent(7, 3, 5), sent(7, 5, 8), sent(7, 8, 9)}, Position{7, 5}, Position{7, 9}, 5, []string{"7:8", "7:9"}},
		{"the head is a hole", []*Publication{sent(7, 1, 3), sent(7, 3, 8)}, Position{7, 5}, Position{7, 8}, 5, []string{"7:8"}},
		{"some are missing", []*Publication{sent(7, 7, 8), sent(7, 8, 9)}, Position{7, 5}, Position{7, 9}, 7, []string{"7:8", "7:9"}},
		{"of the epoch before", []*Publication{sent(6, 1, 3), sent(6, 3, 9), sent(7, 0, 1)}, Position{7, 0}, Position{7, 1}, 0, []string{"7:1"}},
		{"of the epoch before and below", []*Publication{sent(6, 3, 9), sent(7, 0, 1), sent(7, 1, 2)}, Position{7, 1}, Position{7, 2}, 1, []string{"7:2"}},
		{"a reset after it", []*Publication{sent(7, 4, 5), sent(7, 5, 6), sent(8, 0, 1)}, Position{7, 5}, Position{8, 1}, 0, []string{"8:1"}},
		{"of another epoch", []*Publication{sent(8, 2, 3)}, Position{7, 5}, Position{8, 3}, 2, []string{"8:3"}},
		{"repeated", []*Publication{sent(7, 5, 6), sent(7, 5, 6), sent(7, 6, 7)}, Position{7, 5}, Position{7, 7}, 5, []string{"7:6", "7:7"}},
		{"without a position", []*Publication{{Kind: KindJoin}, {Payload: []byte("x"), Epoch: 7, Passing: true}}, Position{7, 5}, Position{7, 5}, 5, nil},
		{"too much", []*Publication{big(6), big(7), big(8), big(9), sent(7, 9, 10)}, Position{7, 5}, Position{7, 10}, 8, []string{"7:9", "7:10"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newRemote(t, 10)
			s.prepare(now, s.holder("a"), false)
			c := s.Find("x")
			for _, p := range tt.appended {
				s.give(c, p)
			}
			c.Attached(tt.at)
			s.want("it has attached", "attach x", "a: <nil>")
			s.wantHistory("afterwards", c, Ask{Kind: AskNewest, N: 100}, tt.want...)
			if c.Newest() != tt.newest || c.history.floor != tt.floor || len(c.remote.early) != 0 {
				t.Errorf("it is at %v with the floor %d, want %v and %d", c.Newest(), c.history.floor, tt.newest, tt.floor)
			}
		})
	}
}

// Where no history is kept, attaching keeps no payloads.
func TestAppendWhileAttachingWithoutHistory(t *testing.T) {
	s := newRemote(t, 0)
	s.prepare(since(7, 1), s.holder("a"), false)
	c := s.Find("x")
	for i := range uint64(100) {
		s.give(c, sent(7, 5+i, 6+i))
	}
	if n := len(c.remote.early); n != 1 || c.remote.early[0].Payload != nil {
		t.Errorf("%d publications are kept", n)
	}
	c.Attached(Position{7, 50})
	s.want("nothing is to be filled", "attach x", "a: <nil>")
	if c.Newest() != (Position{7, 105}) {
		t.Errorf("it is at %v", c.Newest())
	}
	s.wantHistory("there is none", c, since(7, 50), "gap")
}

// One fill at a time, however many ask, and only where somebody asks for what is below.
func TestFill(t *testing.T) {
	s := newRemote(t, 10)
	a, b, d, e := s.holder("a"), s.holder("b"), s.holder("d"), s.holder("e")
	s.prepare(since(7, 2), a, false)
	s.prepare(now, b, false)
	c := s.Find("x")
	c.Attached(Position{7, 5})
	s.want("one asks for more", "attach x", "b: <nil>", "fill x")
	s.prepare(Ask{Kind: AskNewest, N: 3}, d, false)
	s.prepare(since(7, 5), e, true)
	s.give(c, sent(7, 5, 8))
	s.want("it is filling")
	c.Filled([]Publication{*sent(7, 1, 3), *sent(7, 3, 5), *sent(7, 5, 8)}, Position{7, 1}, c.Newest())
	s.want("it was filled", "a: <nil>", "d: <nil>")
	s.wantHistory("old and new", c, since(7, 1), "7:3", "7:5", "7:8")
	s.wantHistory("below the floor", c, since(7, 0), "gap", "7:3", "7:5", "7:8")
	s.prepare(since(7, 0), d, true)
	s.give(c, sent(7, 8, 9))
	s.wantHistory("it goes on", c, since(7, 3), "7:5", "7:8", "7:9")
	s.want("nothing more is asked of the engine")
}

// The bounds hold for what is filled and what came meanwhile.
func TestFillKeepsTheBounds(t *testing.T) {
	for _, tt := range []struct {
		name     string
		keep     int
		appended []*Publication // while it fills
		floor    uint64
		want     []string
	}{
		{"the newest", 3, []*Publication{sent(7, 50, 60)}, 30, []string{"gap", "7:40", "7:50", "7:60"}},
		{"none of it", 2, []*Publication{sent(7, 50, 60), sent(7, 60, 70), sent(7, 70, 80)}, 60, []string{"gap", "7:70", "7:80"}},
		{"all", 10, nil, 0, []string{"7:10", "7:20", "7:30", "7:40", "7:50"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newRemote(t, tt.keep)
			s.prepare(since(7, 0), s.holder("a"), false)
			c := s.Find("x")
			c.Attached(Position{7, 50})
			for _, p := range tt.appended {
				s.give(c, p)
			}
			var pubs []Publication
			for i := uint64(0); i < 50; i += 10 {
				pubs = append(pubs, *sent(7, i, i+10))
			}
			c.Filled(pubs, Position{7, 0}, c.Newest())
			s.want("it was filled", "attach x", "fill x", "a: <nil>")
			s.wantHistory("of all", c, since(7, 0), tt.want...)
			if got := c.history.floor; got != tt.floor {
				t.Errorf("the floor is %d, want %d", got, tt.floor)
			}
			if got, want := s.history.Budget.Used(), c.history.size(); got != want {
				t.Errorf("%d bytes are counted, it holds %d", got, want)
			}
		})
	}
}

func TestFailedFillIsTriedAgain(t *testing.T) {
	s := newRemote(t, 10)
	a, b := s.holder("a"), s.holder("b")
	s.prepare(now, b, false)
	s.prepare(since(7, 2), a, false)
	c := s.Find("x")
	c.Attached(Position{7, 5})
	c.Failed(errors.New("away"))
	s.want("it failed", "attach x", "fill x", "b: <nil>", "a: away")
	s.prepare(since(7, 2), a, false)
	s.want("it is tried again", "fill x")
	s.Release("x", b)
	c.Failed(errors.New("away"))
	s.want("the last one that holds it has failed", "a: away", "detach x")
}

// A gap or a reset while the channel is filling makes it fill again.
func TestFillThatIsStale(t *testing.T) {
	for _, tt := range []struct {
		name string
		p    *Publication
		want []string
	}{
		{"gap", sent(7, 9, 10), []string{"7:5", "7:9", "7:10"}},
		{"reset", sent(8, 2, 3), []string{"gap", "8:1", "8:2", "8:3"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newRemote(t, 10)
			s.prepare(since(7, 2), s.holder("a"), false)
			c := s.Find("x")
			c.Attached(Position{7, 5})
			s.give(c, tt.p)
			c.Filled([]Publication{*sent(7, 3, 5)}, Position{7, 2}, c.Newest())
			s.want("it fills again", "attach x", "fill x", "fill x")
			if tt.p.Epoch == 7 {
				c.Filled([]Publication{*sent(7, 2, 5), *sent(7, 5, 9), *sent(7, 9, 10)}, Position{7, 2}, c.Newest())
			} else {
				c.Filled([]Publication{*sent(8, 0, 1), *sent(8, 1, 2)}, Position{8, 0}, c.Newest())
			}
			s.want("it was filled", "a: <nil>")
			s.wantHistory("since its position", c, since(7, 2), tt.want...)
		})
	}
}

// Removing the history while it is filled leaves nothing of it.
func TestForgetHistoryWhileFilling(t *testing.T) {
	s := newRemote(t, 10)
	s.prepare(since(7, 2), s.holder("a"), false)
	c := s.Find("x")
	c.Attached(Position{7, 5})
	c.ForgetHistory()
	c.Filled([]Publication{*sent(7, 3, 5)}, Position{7, 2}, c.Newest())
	s.want("it fills again", "attach x", "fill x", "fill x")
	c.Filled(nil, Position{7, 5}, c.Newest())
	s.want("it was filled", "a: <nil>")
	s.wantHistory("it is gone", c, since(7, 2), "gap")
}

// What is missing has an entry in each log, and in the history.
func TestGapsAndResetsAreEntries(t *testing.T) {
	s := newRemote(t, 10)
	s.prepare(now, s.holder("a"), false)
	c := s.Find("x")
	c.Attached(Position{7, 5})
	tells, cannot := s.follow(telling{}), s.follow(mute{})
	for _, p := range []*Publication{sent(7, 5, 6), sent(7, 6, 9), sent(7, 6, 9), sent(7, 5, 6), sent(7, 11, 12), sent(7, 12, 13),
		sent(8, 3, 4), sent(8, 4, 5)} {
		s.give(c, p)
	}
	s.wantSeen("in a format that tells", tells, "7:6", "7:9", "gap 7:11", "7:12", "7:13", "reset 8:3", "8:4", "8:5")
	s.wantSeen("behind fences", cannot, "7:6", "7:9", "[gap]", "7:12", "7:13", "[reset]", "8:4", "8:5")
	s.wantHistory("since a position before the reset", c, since(7, 13), "gap", "8:4", "8:5")
	s.wantHistory("since its beginning", c, since(8, 3), "8:4", "8:5")
	if got := s.Repeated(); got != 2 {
		t.Errorf("%d were dropped, want 2", got)
	}
	if got := []uint64{tells.Told(), cannot.Told(), tells.Told()}; !slices.Equal(got, []uint64{2, 0, 0}) {
		t.Errorf("%v gaps were told", got)
	}
	s.prepare(since(8, 1), s.holder("b"), false)
	s.want("it is filled again", "attach x", "a: <nil>", "fill x")

	// The engine has noticed something itself.
	c.Filled([]Publication{*sent(8, 1, 3)}, Position{8, 1}, c.Newest())
	s.give(c, &Publication{Kind: KindGap, Epoch: 8, Prev: 5})
	s.give(c, &Publication{Kind: KindGap, Epoch: 8, Prev: 7})
	c.Attached(Position{8, 7})
	c.Attached(Position{8, 9})
	c.Attached(Position{9, 2})
	s.give(c, &Publication{Kind: KindJoin, Payload: []byte("join")})
	s.give(c, sent(9, 2, 3))
	s.wantSeen("in a format that tells", tells, "gap 8:5", "gap 8:7", "gap 8:9", "reset 9:2", "join", "9:3")
	s.wantSeen("behind fences", cannot, "[gap]", "[gap]", "[gap]", "[reset]", "9:3")
}

// A fence goes in whatever the limit and the budget are. What is missing behind it has another one, at the latest
// when the space is trimmed: there may be subscribers that have joined between.
func TestFenceHasRoom(t *testing.T) {
	for _, tt := range []struct {
		name    string
		payload int
		budget  int
		want    int // of the payloads
	}{{"bytes", 100, 2048 + 16*entryBytes, 15}, {"entries", 4, 1024 + 64*entryBytes, 63}, {"no budget", 100, 1, 4}} {
		t.Run(tt.name, func(t *testing.T) {
			s := newRemote(t, 0)
			s.budget.Take(1<<20 - tt.budget)
			s.prepare(now, s.holder("a"), false)
			c := s.Find("x")
			c.Attached(Position{7, 0})
			f := s.follow(mute{})
			s.give(c, &Publication{Kind: KindGap, Epoch: 7})
			want := []string{"[gap]"}
			sized := func(offset int) *Publication {
				p := sent(7, uint64(offset-1), uint64(offset))
				p.Payload = make([]byte, tt.payload)
				return p
			}
			for offset := 1; offset < 100; offset++ {
				if s.give(c, sized(offset)); offset <= tt.want {
					want = append(want, string(make([]byte, tt.payload)))
				}
			}
			s.wantSeen("it was full", f, append(want, "[gap]")...)
			for range trimPart {
				s.Trim(0)
			}
			s.wantSeen("some more are missing", f, "[gap]")
			for range trimPart {
				s.Trim(0)
			}
			s.wantSeen("they were told", f)
			s.give(c, &Publication{Kind: KindReset, Epoch: 8})
			s.give(c, &Publication{Kind: KindGap, Epoch: 8})
			s.give(c, sent(8, 0, 1))
			s.wantSeen("it is empty", f, "[reset]", "[gap]", "8:1")
			s.Leave(&f.Reader)
			s.Release("x", s.holder("a"))
			if got, want := s.budget.Used(), 1<<20-tt.budget; got != want {
				t.Errorf("%d bytes are counted, want %d", got, want)
			}
		})
	}
}

func TestFitEndsBeforeAFence(t *testing.T) {
	s := newRemote(t, 0)
	s.prepare(now, s.holder("a"), false)
	c := s.Find("x")
	c.Attached(Position{7, 0})
	f := s.follow(mute{})
	for _, p := range []*Publication{sent(7, 0, 1), sent(7, 1, 2), sent(7, 5, 6), sent(7, 6, 7)} {
		s.give(c, p)
	}
	const frame = lengthBytes + 3
	head := f.Log().Head()
	if head != 4*frame+1 {
		t.Fatalf("the log has %d bytes", head)
	}
	for _, tt := range []struct {
		cursor, head uint64
		n            int
		want         uint64
	}{
		{0, head, 1000, 2 * frame}, {0, head, frame, frame}, {0, head, 2*frame - 1, frame}, {0, head, 0, frame},
		{frame, head, 1000, 2 * frame}, {frame, head, 0, 2 * frame}, {0, 2 * frame, 1000, 2 * frame}, {frame, 2 * frame, 0, 2 * frame},
		{2 * frame, head, 1000, 2 * frame}, {2 * frame, head, 0, 2 * frame}, {2 * frame, 2*frame + 1, 0, 2 * frame},
		{2*frame + 1, head, 1000, head}, {2*frame + 1, head, 0, 3*frame + 1}, {3*frame + 1, head, 0, head},
	} {
		v, _ := f.View(tt.cursor)
		if got := v.Fit(tt.cursor, tt.head, tt.n); got != tt.want {
			t.Errorf("%d bytes from %d to %d: got %d, want %d", tt.n, tt.cursor, tt.head, got, tt.want)
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		v, _ := f.View(0)
		v.Fit(0, head, 1000)
		v.Fence(2 * frame)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Resumption over a gap is filled from the engine, and live delivery goes on without one.
func TestPrepareAfterAGap(t *testing.T) {
	s := newRemote(t, 10)
	a := s.holder("a")
	s.prepare(now, a, false)
	c := s.Find("x")
	c.Attached(Position{7, 1})
	s.give(c, sent(7, 1, 2))
	s.give(c, sent(7, 4, 5))
	b := s.holder("b")
	s.prepare(since(7, 2), b, false)
	s.want("what was missed is asked for", "attach x", "a: <nil>", "fill x")
	s.give(c, sent(7, 5, 6))
	c.Filled([]Publication{*sent(7, 1, 2), *sent(7, 2, 4), *sent(7, 4, 5)}, Position{7, 1}, c.Newest())
	s.want("it is there", "b: <nil>")
	s.wantHistory("everything", c, since(7, 1), "7:2", "7:4", "7:5", "7:6")
	s.give(c, sent(7, 8, 9))
	s.prepare(since(7, 6), s.holder("d"), false)
	s.want("it is asked again", "fill x")
	c.Filled([]Publication{*sent(7, 6, 8), *sent(7, 8, 9)}, Position{7, 6}, c.Newest())
	s.want("it is there", "d: <nil>")
	s.wantHistory("everything", c, since(7, 6), "7:8", "7:9")

	// One comes from a node that is ahead.
	s.prepare(since(7, 10), s.holder("e"), false)
	s.want("the engine is asked", "fill x")
	s.give(c, sent(7, 9, 10))
	c.Filled([]Publication{*sent(7, 6, 8), *sent(7, 8, 9), *sent(7, 9, 10)}, Position{7, 6}, c.Newest())
	s.want("this node is there", "e: <nil>")
	s.wantHistory("nothing is missing", c, since(7, 10))
}

func TestAppendToAttachedChannelAllocatesNothing(t *testing.T) {
	s := newRemote(t, 10)
	s.prepare(now, s.holder("a"), false)
	c := s.Find("x")
	c.Attached(Position{7, 0})
	f := s.follow(mute{})
	p, scratch := sent(7, 0, 1), new(Scratch)
	if n := testing.AllocsPerRun(1000, func() {
		c.Append(p, scratch)
		p.Offset, p.Prev = p.Offset+3, p.Offset
		f.serve()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
