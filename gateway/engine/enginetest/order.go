package enginetest

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
)

// Order checks that there is one order for each channel, on each node where it is each node's own,
// whatever fails: publishers on all nodes, subscribers that stay, and others that come back again and
// again on all nodes. Each gets the same, in the order of each publisher, or learns what it has not.
func Order(t testing.TB, rig *Rig) {
	const publishers, each = 6, 30
	names := []string{"a", "b", "none"}
	var acks sync.Map // the positions by payload
	var readers []*reader
	for _, name := range names {
		for i, n := range rig.Nodes {
			for _, returns := range []bool{false, true} {
				s := n.subscribe(t, name, now)
				who := fmt.Sprintf("%s, node %d, returns: %t", name, i, returns)
				readers = append(readers, &reader{node: n, s: s, returns: returns, ledger: newLedger(t, who, s.from)})
			}
		}
	}
	if rig.During != nil {
		rig.during = make(chan struct{})
		go func() {
			defer close(rig.during)
			rig.During()
		}()
	}
	published := make(chan struct{})
	var publishing, reading sync.WaitGroup
	for _, r := range readers {
		switch {
		case r.returns:
			reading.Go(func() { r.comeAndGo(published) })
		case rig.During != nil: // more than a log holds may be published
			reading.Go(func() { r.follow(published) })
		}
	}
	for i := range publishers {
		publishing.Go(func() {
			node := rig.Nodes[i%len(rig.Nodes)]
			for j := 0; j < each || !over(rig.during); j++ {
				if j >= each {
					time.Sleep(time.Millisecond) // the load lasts as long as the fault does
				}
				for _, name := range names {
					payload := fmt.Sprintf("%s-%d-%d", name, i, j)
					r, err := node.publish(t, name, payload)
					switch {
					case err != nil && !errors.Is(err, engine.ErrUnavailable):
						t.Errorf("publish: %v", err)
					case err == nil && rig.perNode(name) != (r.Offset == 0):
						t.Errorf("%s has the receipt %+v", payload, r)
					case err == nil:
						acks.Store(payload, channel.Position{Epoch: r.Epoch, Offset: r.Offset})
					}
				}
			}
		})
	}
	publishing.Wait()
	close(published)
	reading.Wait()
	last := map[string]channel.Position{} // behind all others
	for _, name := range names {
		for last[name].Offset == 0 && !rig.perNode(name) {
			r, err := rig.Nodes[0].publish(t, name, "last")
			if err != nil && !errors.Is(err, engine.ErrUnavailable) {
				t.Fatal(err)
			}
			last[name] = channel.Position{Epoch: r.Epoch, Offset: r.Offset}
		}
	}
	stop := publishLasts(t, rig, names)
	for _, r := range readers {
		reading.Go(func() { r.finish(rig, last[r.s.name], &acks) })
	}
	reading.Wait()
	stop()
	positions := map[string]entry{} // as some subscriber has seen them
	for _, r := range readers {
		order := "" // whose positions are the same
		if rig.perNode(r.s.name) {
			order = fmt.Sprintf("%p ", r.node)
		}
		for payload, one := range r.seen {
			if other, ok := positions[order+payload]; ok && other != one && !strings.HasPrefix(payload, "last") {
				t.Errorf("%s: got %+v, another one %+v", r.who, one, other)
			}
			positions[order+payload] = one
			if at, ok := acks.Load(payload); ok && at != one.At && !rig.perNode(r.s.name) {
				t.Errorf("%s: got %+v, and its receipt was %+v", r.who, one, at)
			}
		}
		if r.notified && rig.Fills && Keep(r.s.name).Count > 0 {
			t.Errorf("%s: got a gap, and all is kept", r.who)
		}
		for _, payload := range r.missing(&acks) {
			t.Errorf("%s: %s was acknowledged and is missing, and nothing tells it", r.who, payload)
		}
	}
}

// noticeMost bounds how long after a loss subscribers are notified of it, on a machine that is busy.
const noticeMost = clienttest.Patience

// finish reads to the last publication, and leaves.
func (r *reader) finish(rig *Rig, last channel.Position, acks *sync.Map) {
	for r.at != last && !(rig.perNode(r.s.name) && r.hasLasts(rig)) {
		r.add(r.s.next())
	}
	if rig.perNode(r.s.name) { // what tells that something is missing may come later
		for end := time.Now().Add(cmp.Or(rig.notice, noticeMost)); len(r.missing(acks)) > 0 && time.Now().Before(end); {
			r.add(r.s.next())
		}
	}
	r.s.leave()
}

// missing returns what was acknowledged and has not come, if nothing tells it.
func (r *reader) missing(acks *sync.Map) (payloads []string) {
	acks.Range(func(payload, _ any) bool {
		p := payload.(string)
		if _, ok := r.seen[p]; strings.HasPrefix(p, r.s.name+"-") && !ok && !r.notified {
			payloads = append(payloads, p)
		}
		return true
	})
	return payloads
}

// over reports whether something has ended; nil has.
func over(done <-chan struct{}) bool {
	if done == nil {
		return true
	}
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// publishLasts publishes on each node into those of the channels whose order is each node's own, again
// and again until stop is called: what a subscriber has of these comes behind all that was published
// on that node before.
func publishLasts(t testing.TB, rig *Rig, names []string) (stop func()) {
	var publishing sync.WaitGroup
	done := make(chan struct{})
	for i, n := range rig.Nodes {
		for _, name := range names {
			if !rig.perNode(name) {
				continue
			}
			publishing.Go(func() {
				for {
					if _, err := n.publish(t, name, fmt.Sprint("last-", i)); err != nil && !errors.Is(err, engine.ErrUnavailable) {
						t.Errorf("publish: %v", err)
					}
					select {
					case <-done:
						return
					case <-time.After(time.Millisecond):
					}
				}
			})
		}
	}
	return func() {
		close(done)
		publishing.Wait()
	}
}

// hasLasts reports whether the reader has what publishLasts publishes on each node.
func (r *reader) hasLasts(rig *Rig) bool {
	for i := range rig.Nodes {
		if _, ok := r.seen[fmt.Sprint("last-", i)]; !ok {
			return false
		}
	}
	return true
}

// reader is a subscriber with its ledger.
type reader struct {
	*ledger
	node    *Node
	s       *subscriber
	returns bool
}

// follow reads what comes.
func (r *reader) follow(until <-chan struct{}) {
	for !over(until) {
		r.readSome()
	}
}

// readSome reads what has come, or waits a moment for it.
func (r *reader) readSome() {
	if !r.s.idle() {
		r.add(r.s.next())
		return
	}
	select {
	case <-r.s.notified:
	case <-time.After(time.Millisecond):
	}
}

// comeAndGo ends the subscription again and again, and comes back with its position.
func (r *reader) comeAndGo(until <-chan struct{}) {
	for {
		for range 5 {
			r.readSome()
		}
		select {
		case <-until:
			return
		default:
		}
		r.s.leave()
		r.s = r.node.subscribe(r.t, r.s.name, channel.Ask{Kind: channel.AskSince, At: r.at})
		switch {
		case r.s.gap:
			r.at, r.notified = r.s.from, true
		case r.s.from != r.at:
			r.t.Errorf("%s: came back from %+v, and went on at %+v", r.who, r.at, r.s.from)
		}
	}
}

// ledger has what a subscriber gets.
type ledger struct {
	t        testing.TB
	who      string
	at       channel.Position // of the newest
	notified bool             // that something is missing
	seen     map[string]entry
	newest   map[int]int // of each publisher: the number of its newest publication
}

func newLedger(t testing.TB, who string, at channel.Position) *ledger {
	return &ledger{t: t, who: who, at: at, seen: make(map[string]entry), newest: make(map[int]int)}
}

// add checks that nothing is lost without notification, repeated or out of order.
func (l *ledger) add(one entry) {
	l.t.Helper()
	switch {
	case one.Kind == channel.KindGap || one.Kind == channel.KindReset:
		l.at, l.notified = channel.Position{Epoch: one.At.Epoch, Offset: one.Prev}, true
		return
	case one.At.Offset <= one.Prev || one.At.Offset <= l.at.Offset && one.At.Epoch == l.at.Epoch:
		l.t.Errorf("%s: %+v comes after %+v", l.who, one, l.at)
	case one.At.Epoch != l.at.Epoch || one.Prev > l.at.Offset:
		l.t.Errorf("%s: %+v comes after %+v, and nothing tells what is missing", l.who, one, l.at)
	}
	l.at = one.At
	var channel string
	var of, number int
	if n, _ := fmt.Sscanf(strings.ReplaceAll(one.Payload, "-", " "), "%s %d %d", &channel, &of, &number); n == 3 { // ignored: others have no number
		if l.newest[of] > number || l.seen[one.Payload] != (entry{}) {
			l.t.Errorf("%s: %s comes after number %d of its publisher", l.who, one.Payload, l.newest[of])
		}
		l.newest[of] = number
	}
	l.seen[one.Payload] = one
}
