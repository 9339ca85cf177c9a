package enginetest

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"

	"github.com/google/go-cmp/cmp"
)

// stall: while the store stands still every method returns soon, nothing is delivered, and the store
// answers nothing. Then everything is answered.
func stall(t *testing.T, rig *Rig) {
	const most = 200
	n := rig.Nodes[0]
	s := n.subscribe(t, "x", now)
	defer s.leave()
	resume := rig.Stall()
	stored, nodes := make(chan error, 3*most), make(chan error, 3*most) // those of the nodes need not come from the store
	var took []time.Duration
	do := func(f func()) {
		begun := time.Now()
		f()
		took = append(took, time.Since(begun))
	}
	callers := make([]*caller, most)
	for i := range callers {
		callers[i] = newCaller(t)
		p := channel.Publication{Payload: []byte(fmt.Sprint(i)), At: time.Now().UnixMilli()}
		do(func() {
			_, r, err := engine.Publish(n.Engine, n.Space, "x", nil, &p, new(channel.Scratch), callers[i])
			switch {
			case err == engine.ErrPending:
			case err == nil || rig.fails(err):
				t.Fatalf("number %d is not pending: %v", i, err)
			default:
				callers[i].answers <- result{r, err}
			}
		})
		do(func() {
			n.Engine.History(engine.HistoryQuery{Channel: "x"}, func(_ channel.Collected, err error) { stored <- err })
		})
		do(func() { n.Engine.Remove("y", func(err error) { stored <- err }) })
		do(func() { n.Engine.Presence("x", 1, func(_ engine.Presence, err error) { nodes <- err }) })
		do(func() { n.Engine.Info(func(_ engine.Nodes, err error) { nodes <- err }) })
	}
	waiter := &subscriber{t: t, prepared: make(chan error, 1)}
	do(func() {
		if ready, err := n.Space.Prepare("new", &now, waiter); ready || err != nil {
			t.Errorf("a channel that has not attached is ready: %v, %v", ready, err)
		}
	})
	// The bound is 10 us. A machine that others use interrupts some calls, not half of them.
	slices.Sort(took)
	if median := took[len(took)/2]; median > time.Millisecond {
		t.Errorf("a call took %v (median)", median)
	}
	if !s.idle() {
		t.Error("something was delivered while the store stood still")
	}
	if !rig.TimesOut && len(stored)+len(waiter.prepared) > 0 {
		t.Error("something was answered while the store stood still")
	}
	for _, answers := range []chan error{stored, waiter.prepared} {
		for range len(answers) { // with ErrUnavailable, where requests time out
			err := <-answers
			if err == nil {
				t.Error("the store has answered while it stood still")
			}
			answers <- err
		}
	}
	for _, c := range callers {
		for range len(c.answers) {
			r := <-c.answers
			if r.err == nil {
				t.Fatal("a publication was acknowledged while the store stood still")
			}
			c.answers <- r
		}
	}
	resume()
	acknowledged := map[string]bool{}
	for i, c := range callers {
		r := clienttest.Receive(t, "the answer to a publication", c.answers)
		if rig.fails(r.err) {
			t.Error(r.err)
		}
		if r.err == nil {
			acknowledged[fmt.Sprint(i)] = true
		}
	}
	for _, answers := range []chan error{stored, nodes} {
		for range 2 * most {
			if err := clienttest.Receive(t, "an answer", answers); rig.fails(err) {
				t.Error(err)
			}
		}
	}
	if err := clienttest.Receive(t, "the channel", waiter.prepared); rig.fails(err) {
		t.Error(err)
	}
	n.Space.Release("new", waiter)
	for len(acknowledged) > 0 {
		delete(acknowledged, s.next().Payload)
	}
}

// again: a message is handed over again because the result of the first time is unknown.
func again(t *testing.T, rig *Rig) {
	near, far := rig.Nodes[0], rig.Nodes[len(rig.Nodes)-1]
	hand := func(n *Node, id string) *caller {
		c := newCaller(t)
		p := channel.Publication{Payload: []byte(id), ID: id, At: time.Now().UnixMilli()}
		if _, r, err := engine.Publish(n.Engine, n.Space, "x", nil, &p, new(channel.Scratch), c); err != engine.ErrPending {
			c.answers <- result{r, err}
		}
		return c
	}
	answer := func(c *caller) result { return clienttest.Receive(t, "the answer to a publication", c.answers) }
	resume := rig.Stall()
	first, second := hand(near, "a"), hand(far, "a")
	if len(first.answers)+len(second.answers) > 0 {
		t.Error("a publication was answered while the store stood still")
	}
	resume()
	a, b := answer(first), answer(second)
	if rig.TimesOut {
		for _, r := range []*result{&a, &b} {
			available(t, "the result", func() error {
				if r.err != nil {
					*r = answer(hand(far, "a"))
				}
				return r.err
			})
		}
	}
	if a.err != nil || b.err != nil || a.Offset != b.Offset || a.Epoch != b.Epoch {
		t.Errorf("pending, and handed over again: %+v and %+v", a, b)
	}
	want := map[string]int{"a": 1}
	if rig.Away != nil {
		back := rig.Away()
		if r := answer(hand(near, "b")); !errors.Is(r.err, engine.ErrUnavailable) {
			t.Errorf("while the store is away: %+v", r)
		}
		back()
		available(t, "the result", func() error { return answer(hand(far, "b")).err })
		want["b"] = 1
	}
	kept, err := near.history(t, engine.HistoryQuery{Channel: "x", Most: channel.Bounds{Count: -1}})
	got := make(map[string]int)
	for _, p := range kept.Publications {
		got[string(p.Payload)]++
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("published how many times (-want +got), %v:\n%s", err, diff)
	}
}

// stuck: a channel whose readers take nothing neither holds up its publishers nor other channels.
func stuck(t *testing.T, rig *Rig) {
	from, to := rig.Nodes[0], rig.Nodes[len(rig.Nodes)-1]
	still, other := to.subscribe(t, "x", now), to.subscribe(t, "y", now)
	large := strings.Repeat("x", 10<<10)
	for i := range 50 { // far more than its log holds
		from.publishAll(t, "x", large)
		from.publishAll(t, "y", fmt.Sprint(i))
		other.want("beside a channel whose readers stand still", fmt.Sprint(i))
	}
	still.leave()
	other.leave()
	back := to.subscribe(t, "x", channel.Ask{Kind: channel.AskNewest, N: 1})
	back.want("the channel's newest", large)
	back.leave()
}

// away: while the store is unavailable every request to it is answered with that; what the nodes
// answer may lack some. Afterwards all is as before, and who was subscribed learns what it has missed.
func away(t *testing.T, rig *Rig) {
	n := rig.Nodes[0]
	n.publishAll(t, "x", "before")
	s := n.subscribe(t, "x", now)
	defer s.leave()
	back := rig.Away()
	ask := map[string]error{}
	_, ask["publish"] = n.publish(t, "x", "lost")
	_, ask["history"] = n.history(t, engine.HistoryQuery{Channel: "x"})
	ask["remove"] = n.remove(t, "x")
	_, ask["attach"] = n.try(t, "y", now)
	_, ask["fill"] = n.try(t, "x", channel.Ask{Kind: channel.AskNewest, N: 1})
	for what, err := range ask {
		if !errors.Is(err, engine.ErrUnavailable) {
			t.Errorf("%s: %v, want ErrUnavailable", what, err)
		}
	}
	if _, err := n.presence(t, "x", 1); err != nil && !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("presence: %v, want ErrUnavailable or an answer", err)
	}
	if _, err := wait(t, n.Engine.Info); err != nil && !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("info: %v, want ErrUnavailable or an answer", err)
	}
	if n.Space.Find("y") != nil {
		t.Error("a channel that could not attach is left")
	}
	back()
	n.publishAgain(t, "x", "after")
	for one := s.next(); one.Payload != "after"; one = s.next() {
		if one.Payload != "lost" && one.Kind != channel.KindGap { // it may have been stored
			t.Errorf("got %+v", one)
		}
	}
	n.subscribe(t, "y", now).leave()
	late := n.subscribe(t, "x", channel.Ask{Kind: channel.AskNewest, N: math.MaxInt32})
	late.want("what is kept", "before")
	for one := late.next(); one.Payload != "after"; one = late.next() {
	}
	late.leave()
}

// reset: where the order begins anew, live subscribers get a reset, and positions of before are of
// another epoch.
func reset(t *testing.T, rig *Rig) {
	n := rig.Nodes[0]
	before := n.publishAll(t, "x", "a", "b")
	var live []*subscriber
	for _, n := range rig.Nodes {
		live = append(live, n.subscribe(t, "x", now), n.subscribe(t, "quiet", now))
	}
	rig.Reset("x", "quiet")
	n.publishAgain(t, "x", "c")
	for i, s := range live {
		if one := s.next(); one.Kind != channel.KindReset || one.At.Epoch == before[0].Epoch {
			t.Errorf("subscriber %d got %+v, want a reset", i, one)
		}
		if s.name == "x" {
			s.want("behind the reset", "c")
		}
		s.leave()
	}
	for _, n := range rig.Nodes {
		ask := channel.Ask{Kind: channel.AskSince, At: channel.Position{Epoch: before[0].Epoch, Offset: before[0].Offset}}
		if _, err := n.history(t, engine.HistoryQuery{Channel: "x", Since: &ask}); err != engine.ErrEpoch {
			t.Errorf("history since a position of before: %v, want ErrEpoch", err)
		}
		s := n.subscribe(t, "x", ask)
		if !s.gap {
			t.Error("a subscriber with a position of before is not notified")
		}
		s.want("what is of the new epoch", "c")
		s.leave()
	}
}

// lose: what was lost on its way to a node comes later or is a gap there, also where nothing comes
// behind it, and is nothing elsewhere. Who comes later has all of it.
func lose(t *testing.T, rig *Rig) {
	last := len(rig.Nodes) - 1
	near, far := rig.Nodes[0], rig.Nodes[last]
	for _, name := range []string{"x", "none"} {
		bad := far.subscribe(t, name, now)
		l := newLedger(t, name, bad.from)
		until := func(at channel.Receipt) {
			for l.at.Offset < at.Offset { // where the order is the node's own, at once
				l.add(bad.next())
			}
		}
		near.publishAll(t, name, "a")
		for l.seen["a"] == (entry{}) {
			l.add(bad.next())
		}
		rig.Lose(last, name, 2)
		until(near.publishAll(t, name, "b", "c")[1])
		near.publishAll(t, name, "d")
		for l.seen["d"] == (entry{}) {
			l.add(bad.next())
		}
		_, b := l.seen["b"]
		_, c := l.seen["c"]
		if l.notified == (b && c) {
			t.Errorf("%s: notified of a gap: %v; has %v", name, l.notified, l.seen)
		}
		for _, n := range rig.Nodes {
			if Keep(name).Count > 0 {
				late := n.subscribe(t, name, channel.Ask{Kind: channel.AskNewest, N: math.MaxInt32})
				late.want("all that is kept", "a", "b", "c", "d")
				late.leave()
			}
		}
		bad.leave()
	}
}
