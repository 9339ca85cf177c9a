package enginetest

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"

	"github.com/google/go-cmp/cmp"
)

// once: every answer comes once, and under no lock of the engine: it may be asked again.
func once(t *testing.T, rig *Rig) {
	const rounds = 50
	n := rig.Nodes[0]
	s := n.subscribe(t, "x", now)
	defer s.leave()
	var mu sync.Mutex
	answers := map[string]int{} // guarded by mu
	var due sync.WaitGroup
	answered := func(what string, i int, again func(done func())) {
		mu.Lock()
		defer mu.Unlock()
		if answers[fmt.Sprint(what, i)]++; answers[fmt.Sprint(what, i)] == 1 {
			again(due.Done)
		}
	}
	for i := range rounds {
		due.Add(5)
		n.Engine.History(engine.HistoryQuery{Channel: "x"}, func(channel.Collected, error) {
			answered("history", i, func(done func()) { n.Engine.Presence("x", 10, func(engine.Presence, error) { done() }) })
		})
		n.Engine.Presence("x", 0, func(engine.Presence, error) {
			answered("presence", i, func(done func()) { n.Engine.Remove("x", func(error) { done() }) })
		})
		n.Engine.Remove("y", func(error) {
			answered("remove", i, func(done func()) { n.Engine.Info(func(engine.Nodes, error) { done() }) })
		})
		n.Engine.Info(func(engine.Nodes, error) {
			answered("info", i, func(done func()) {
				n.Engine.History(engine.HistoryQuery{Channel: "x"}, func(channel.Collected, error) { done() })
			})
		})
		go func() {
			c := newCaller(t)
			if _, err := n.send(c, "x", &channel.Publication{Payload: []byte("x")}); err != nil {
				t.Error(err)
			}
			answered("publish", i, func(done func()) { done() })
			if len(c.answers) > 0 {
				t.Error("a publication was answered twice")
			}
		}()
	}
	due.Wait()
	mu.Lock()
	defer mu.Unlock()
	for what, n := range answers {
		if n != 1 {
			t.Errorf("%s was answered %d times", what, n)
		}
	}
	if len(answers) != 5*rounds {
		t.Errorf("%d answers, want %d", len(answers), 5*rounds)
	}
}

// copies: what was published may be changed once Publish has returned.
func copies(t *testing.T, rig *Rig) {
	n := rig.Nodes[0]
	s := n.subscribe(t, "x", now)
	defer s.leave()
	payload, extra, c := []byte("payload"), []byte("extra"), newCaller(t)
	p := channel.Publication{Payload: payload, Extra: extra, At: time.Now().UnixMilli()}
	_, _, err := engine.Publish(n.Engine, n.Space, "x", nil, &p, new(channel.Scratch), c)
	copy(payload, "changed")
	copy(extra, "other")
	p = channel.Publication{}
	if err == engine.ErrPending {
		err = clienttest.Receive(t, "the answer", c.answers).err
	}
	if one := s.next(); err != nil || one.Payload != "payload" || one.Extra != "extra" {
		t.Errorf("got %+v, %v", one, err)
	}
	kept, err := n.history(t, engine.HistoryQuery{Channel: "x", Most: channel.Bounds{Count: -1}})
	if err != nil || len(kept.Publications) != 1 || string(kept.Publications[0].Payload) != "payload" || string(kept.Publications[0].Extra) != "extra" {
		t.Errorf("kept is %+v, %v", kept.Publications, err)
	}
}

// unordered: joins, leaves and passing publications reach present subscribers, and are not kept.
func unordered(t *testing.T, rig *Rig) {
	from, to := rig.Nodes[0], rig.Nodes[len(rig.Nodes)-1]
	for _, name := range []string{"x", "none"} {
		unorderedIn(t, name, from, to)
	}
}

func unorderedIn(t *testing.T, name string, from, to *Node) {
	before, err := from.history(t, engine.HistoryQuery{Channel: name})
	if err != nil {
		t.Error(err)
	}
	s := to.subscribe(t, name, now)
	defer s.leave()
	for _, p := range []channel.Publication{
		{Kind: channel.KindJoin, Extra: []byte("who")},
		{Kind: channel.KindLeave, Extra: []byte("who")},
		{Payload: []byte("passing"), Passing: true},
	} {
		want := p
		if r, err := from.send(newCaller(t), name, &p); err != nil || r.Offset != 0 {
			t.Errorf("kind %d: got the receipt %+v, %v", want.Kind, r, err)
		}
		if one := s.next(); one.Kind != want.Kind || one.At.Offset != 0 || one.Payload != string(want.Payload) || one.Extra != string(want.Extra) {
			t.Errorf("kind %d: got %+v", want.Kind, one)
		}
	}
	kept, err := from.history(t, engine.HistoryQuery{Channel: name, Most: channel.Bounds{Count: -1}})
	if err != nil || len(kept.Publications) > 0 || kept.Newest.Offset != before.Newest.Offset {
		t.Errorf("%s: kept is %+v, %v; before it was %+v", name, kept, err, before)
	}
}

// numbered returns the texts "0", "1" and so on.
func numbered(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

// histories: a query and a subscriber get the same, on every node.
func histories(t *testing.T, rig *Rig) {
	texts := numbered(10)
	for _, n := range rig.Nodes {
		if _, err := n.history(t, engine.HistoryQuery{Channel: "x"}); err != nil {
			t.Errorf("history of a channel in which nothing was published: %v", err)
		}
	}
	at := rig.Nodes[0].publishAll(t, "x", texts...)
	position := func(i int) channel.Position { return channel.Position{Epoch: at[i].Epoch, Offset: at[i].Offset} }
	since := func(i int) *channel.Ask { return &channel.Ask{Kind: channel.AskSince, At: position(i)} }
	reversed := slices.Clone(texts)
	slices.Reverse(reversed)
	for _, n := range rig.Nodes {
		for name, test := range map[string]struct {
			q    engine.HistoryQuery
			want []string
			more bool
		}{
			"all":                 {engine.HistoryQuery{Most: channel.Bounds{Count: -1}}, texts, false},
			"none":                {engine.HistoryQuery{}, nil, true},
			"the first":           {engine.HistoryQuery{Most: channel.Bounds{Count: 3}}, texts[:3], true},
			"back":                {engine.HistoryQuery{Back: true, Most: channel.Bounds{Count: -1}}, reversed, false},
			"the newest":          {engine.HistoryQuery{Back: true, Most: channel.Bounds{Count: 3}}, reversed[:3], true},
			"since":               {engine.HistoryQuery{Since: since(6), Most: channel.Bounds{Count: -1}}, texts[7:], false},
			"some since":          {engine.HistoryQuery{Since: since(2), Most: channel.Bounds{Count: 2}}, texts[3:5], true},
			"since the newest":    {engine.HistoryQuery{Since: since(9), Most: channel.Bounds{Count: -1}}, nil, false},
			"before":              {engine.HistoryQuery{Since: since(3), Back: true, Most: channel.Bounds{Count: -1}}, reversed[7:], false},
			"up to so many bytes": {engine.HistoryQuery{Most: channel.Bounds{Count: -1, Bytes: 2}}, texts[:2], true},
			"of no epoch": {engine.HistoryQuery{Since: &channel.Ask{Kind: channel.AskOffset, At: channel.Position{Offset: at[7].Offset}}, Most: channel.Bounds{Count: -1}},
				texts[8:], false},
		} {
			test.q.Channel = "x"
			kept, err := n.history(t, test.q)
			var got []string
			for _, p := range kept.Publications {
				got = append(got, string(p.Payload))
			}
			if diff := cmp.Diff(test.want, got); diff != "" || err != nil || kept.More != test.more || kept.Newest != position(9) {
				t.Errorf("%s: more %v, newest %v, %v (-want +got):\n%s", name, kept.More, kept.Newest, err, diff)
			}
		}
		_, err := n.history(t, engine.HistoryQuery{Channel: "x", Since: &channel.Ask{Kind: channel.AskSince, At: channel.Position{Epoch: at[0].Epoch + 1}}})
		if err != engine.ErrEpoch {
			t.Errorf("since a position of another epoch: %v, want ErrEpoch", err)
		}
		for name, test := range map[string]struct {
			ask  channel.Ask
			want []string
		}{
			"now":             {now, nil},
			"all":             {channel.Ask{Kind: channel.AskNewest, N: math.MaxInt32}, texts},
			"the newest":      {channel.Ask{Kind: channel.AskNewest, N: 3}, texts[7:]},
			"since":           {*since(4), texts[5:]},
			"since, no epoch": {channel.Ask{Kind: channel.AskOffset, At: channel.Position{Offset: at[4].Offset}}, texts[5:]},
			"from the start":  {channel.Ask{Kind: channel.AskOffset}, texts},
		} {
			s := n.subscribe(t, "x", test.ask)
			l := newLedger(t, name, s.from)
			var got []string
			for !s.idle() {
				one := s.next()
				l.add(one)
				got = append(got, one.Payload)
			}
			if diff := cmp.Diff(test.want, got); diff != "" || s.gap {
				t.Errorf("subscribe %s: gap %v (-want +got):\n%s", name, s.gap, diff)
			}
			s.leave()
		}
	}
	at = append(at, rig.Nodes[len(rig.Nodes)-1].publishAll(t, "x", "live")...)
	if at[10].Offset <= at[9].Offset || at[10].Epoch != at[9].Epoch {
		t.Errorf("the order went on at %+v after %+v", at[10], at[9])
	}
}

// remove: the history goes, the order goes on.
func remove(t *testing.T, rig *Rig) {
	n := rig.Nodes[0]
	before := n.publishAll(t, "x", "a", "b", "c")
	s := rig.Nodes[len(rig.Nodes)-1].subscribe(t, "x", now)
	defer s.leave()
	if err := n.remove(t, "x"); err != nil {
		t.Fatal(err)
	}
	kept, err := n.history(t, engine.HistoryQuery{Channel: "x", Most: channel.Bounds{Count: -1}})
	if at := (channel.Position{Epoch: before[2].Epoch, Offset: before[2].Offset}); err != nil || len(kept.Publications) > 0 || kept.Newest != at {
		t.Errorf("kept is %+v, %v", kept, err)
	}
	after := n.publishAll(t, "x", "d")
	if after[0].Epoch != before[2].Epoch || after[0].Offset <= before[2].Offset {
		t.Errorf("the order went on at %+v after %+v", after[0], before[2])
	}
	if one := s.next(); one.Payload != "d" || one.Kind != channel.KindMessage || one.Prev != before[2].Offset {
		t.Errorf("a live subscriber got %+v", one)
	}
	for _, n := range rig.Nodes {
		late := n.subscribe(t, "x", channel.Ask{Kind: channel.AskSince, At: channel.Position{Epoch: before[0].Epoch, Offset: before[0].Offset}})
		if !late.gap {
			t.Error("a subscriber that has missed what was removed is not notified")
		}
		late.want("what was published since then", "d")
		late.leave()
	}
}

// lives: a channel is there while somebody reads it or waits for it, and works each time.
func lives(t *testing.T, rig *Rig) {
	for i := range 20 {
		n := rig.Nodes[i%len(rig.Nodes)]
		w := &subscriber{t: t, prepared: make(chan error, 1)}
		ready, err := n.Space.Prepare("none", &now, w) // it gives up at once
		if err != nil {
			t.Fatal(err)
		}
		s := n.subscribe(t, "none", now)
		n.Space.Release("none", w)
		rig.Nodes[0].publishAll(t, "none", fmt.Sprint(i))
		s.want("while it is subscribed", fmt.Sprint(i))
		s.leave()
		if !ready && n.Space.Find("none") != nil {
			t.Error("the channel is there although nobody reads it")
		}
	}
}

// room: publishers that have filled a channel's log are all answered, and none of them waits afterwards.
func room(t *testing.T, rig *Rig) {
	n := rig.Nodes[0]
	s := n.subscribe(t, "x", now)
	defer s.leave()
	var publishing sync.WaitGroup
	for range 20 {
		publishing.Go(func() {
			if _, err := n.publish(t, "x", strings.Repeat("x", 10<<10)); err != nil {
				t.Error(err)
			}
		})
	}
	published := make(chan struct{})
	go func() {
		publishing.Wait()
		close(published)
	}()
	for ch := n.Space.Find("x"); ; {
		select {
		case <-published:
			return
		case <-time.After(time.Millisecond):
		}
		if ch.Waiting() > 0 {
			s.Clear()
			s.Served(s.Log().Head()) // as one that has read it
		}
	}
}

// present: who is subscribed on all nodes.
func present(t *testing.T, rig *Rig) {
	for i, n := range rig.Nodes {
		for j := range 3 {
			n.Present.Add("x", uint64(j), &channel.ClientInfo{User: fmt.Sprint(j), Client: fmt.Sprint(i, "-", j)})
		}
	}
	clients := 3 * len(rig.Nodes)
	for _, n := range rig.Nodes {
		n.knows(t, len(rig.Nodes)-1)
		ask := func(name string, most int) engine.Presence {
			for {
				got, err := n.presence(t, name, most)
				if err != nil {
					t.Error(err)
				}
				if err != nil || !got.Partial || !rig.TimesOut {
					return got
				}
			}
		}
		if got := ask("x", 0); got.Clients != clients || got.Users != 3 {
			t.Errorf("%d clients and %d users, want %d and 3", got.Clients, got.Users, clients)
		}
		different := map[string]bool{}
		for _, who := range ask("x", clients).List {
			different[who.Client] = true
		}
		if len(different) != clients {
			t.Errorf("%d clients are listed, want %d", len(different), clients)
		}
		if got := ask("x", clients-1); got.List != nil {
			t.Errorf("%d clients are listed, want none because there are more than asked for", len(got.List))
		}
		if got := ask("y", 1); got.List == nil || len(got.List) > 0 {
			t.Errorf("where nobody is: %v, want an empty list", got.List)
		}
	}
}

// info: each node comes to know the others.
func info(t *testing.T, rig *Rig) {
	for _, n := range rig.Nodes {
		n.knows(t, len(rig.Nodes)-1)
	}
}

// knows waits until a node knows so many others.
func (n *Node) knows(t *testing.T, others int) {
	t.Helper()
	clienttest.WaitFor(t, fmt.Sprint("a node that knows others: ", others), func() bool {
		all, err := wait(t, n.Engine.Info)
		if err != nil || len(all.List) > others {
			t.Fatalf("%d other nodes, %v; want %d", len(all.List), err, others)
		}
		return len(all.List) == others && !all.Partial
	})
}

// ask asks the other nodes.
func (n *Node) ask(t testing.TB, request string) (answers []string, missing int) {
	t.Helper()
	answered, buf := make(chan struct{}), []byte(request)
	n.Engine.Ask(buf, func(all [][]byte, m int) {
		for _, a := range all {
			answers = append(answers, string(a))
		}
		missing = m
		close(answered) // it panics when it is called twice
	})
	copy(buf, "changed")
	clienttest.Receive(t, "the answers of the other nodes", answered)
	slices.Sort(answers)
	return answers, missing
}

// questions: each other node is asked once, and one that does not answer is missing.
func questions(t *testing.T, rig *Rig) {
	others := len(rig.Nodes) - 1
	want := func(why string, n *Node, answers []string, missing int) {
		t.Helper()
		var got []string
		var m int
		clienttest.WaitFor(t, why, func() bool { // a busy machine is late
			got, m = n.ask(t, "question")
			return m <= missing
		})
		if !slices.Equal(got, answers) || m != missing {
			t.Errorf("%s: got %q and %d missing, want %q and %d", why, got, m, answers, missing)
		}
	}
	for _, n := range rig.Nodes {
		n.knows(t, others)
	}
	want("nobody answers yet", rig.Nodes[0], nil, 0)
	var silent atomic.Int64 // the node that does not answer; its number begins with 1
	for i, n := range rig.Nodes {
		n.Engine.Answer(func(request []byte, reply func([]byte)) {
			answer := fmt.Append(nil, i, " ", string(request))
			switch {
			case int64(i+1) == silent.Load():
			case i == 0:
				reply(answer)
			default:
				go reply(answer)
			}
		})
	}
	for i, n := range rig.Nodes {
		var all []string
		for j := range rig.Nodes {
			if j != i {
				all = append(all, fmt.Sprint(j, " question"))
			}
		}
		want("all answer", n, all, 0)
	}
	if others == 0 {
		return
	}
	silent.Store(2)
	var rest []string
	for j := 2; j <= others; j++ {
		rest = append(rest, fmt.Sprint(j, " question"))
	}
	want("one does not answer", rig.Nodes[0], rest, 1)
	rig.Nodes[0].Engine.Answer(func(_ []byte, reply func([]byte)) { reply(nil) })
	want("one answers with nothing", rig.Nodes[1], rest, 0)
	large := strings.Repeat("x", 200<<10)
	rig.Nodes[0].Engine.Answer(func(_ []byte, reply func([]byte)) { reply([]byte(large)) })
	want("a large answer", rig.Nodes[1], append(rest, large), 0)
}
