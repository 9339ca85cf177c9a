package enginetest

import (
	"slices"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
	"sluice/gateway/presence"
)

// Late is the engine of one of a [Store]'s nodes.
type Late struct {
	store   *Store
	space   *channel.Space
	present *presence.Table
	info    engine.NodeInfo

	// Owned by the store's goroutine.
	routes  map[string][]*route // by channel: one, or some more of channels that end
	answer  func(request []byte, reply func([]byte))
	sent    map[string]uint64 // by channel whose order is each node's own: publications of this node
	scratch channel.Scratch
}

// route is the way of a channel's publications to a node.
type route struct {
	ch   *channel.Channel
	live bool      // the store knows of it, until the channel is detached
	due  time.Time // of the newest delivery: they stay in order
	lose int       // deliveries that are lost
	own  *ownOrder // nil where the channel has one order
}

// ownOrder is the order that a node gives a channel.
type ownOrder struct {
	at   channel.Position
	seen map[*Late]uint64 // by publisher: its newest publication here
}

// counted is a publication of a channel whose order is each node's own.
type counted struct {
	channel.Publication
	of     *Late
	number uint64 // of the node's publications to this channel, which begin with 1; 0: not counted
}

// noticed is after how many steps a node notices at the latest that a delivery was lost.
const noticed = 20

// NewLate adds a node to the store. space must be remote.
func NewLate(s *Store, space *channel.Space, present *presence.Table, info engine.NodeInfo) *Late {
	e := &Late{store: s, space: space, present: present, info: info, routes: make(map[string][]*route), sent: make(map[string]uint64)}
	s.Do(func() { s.nodes = append(s.nodes, e) })
	return e
}

// ask has the store do something for the node: fail, where that goes wrong.
func (e *Late) ask(do func(), fail func()) {
	s := e.store
	s.at(time.Now(), func() {
		s.later(func() { // it has arrived
			if s.away || s.happens(s.trouble.Failed) {
				do = fail
			}
			do()
		})
	})
}

// Publish implements engine.Engine.
func (e *Late) Publish(name string, _ *channel.Channel, p *channel.Publication, _ *channel.Scratch, c engine.Caller) (channel.Receipt, error) {
	s := e.store
	if s.happens(s.trouble.Full) {
		if c != nil {
			s.later(c.Released)
		}
		return channel.Receipt{}, channel.ErrFull
	}
	stored := *p
	stored.Payload, stored.Extra = slices.Clone(p.Payload), slices.Clone(p.Extra)
	answer := func(r channel.Receipt, err error) {
		if c != nil {
			s.later(func() { c.Published(r, err) })
		}
	}
	s.at(time.Now(), func() {
		s.later(func() { // it has arrived
			if s.away || s.happens(s.trouble.Unstored) {
				answer(channel.Receipt{}, engine.ErrUnavailable)
				return
			}
			if at, known := s.ids[stored.ID]; known {
				stored.Epoch, stored.Offset = at.Epoch, at.Offset
			} else {
				own := counted{of: e}
				switch {
				case !s.perNode(name):
					s.store(name, &stored)
				case stored.Kind == channel.KindMessage && !stored.Passing:
					e.sent[name]++
					own.number = e.sent[name]
				}
				if stored.ID != "" {
					s.ids[stored.ID] = channel.Position{Epoch: stored.Epoch, Offset: stored.Offset}
				}
				for _, n := range s.nodes {
					for _, r := range n.routes[name] {
						own.Publication = stored
						n.deliver(r, own)
					}
				}
			}
			if s.happens(s.trouble.Unacked) {
				answer(channel.Receipt{}, engine.ErrUnavailable)
				return
			}
			receipt := channel.Receipt{Epoch: stored.Epoch, Offset: stored.Offset}
			if ch := e.space.Find(name); ch != nil {
				receipt.Subscribers = ch.Subscribers()
			}
			answer(receipt, nil)
		})
	})
	return channel.Receipt{}, engine.ErrPending
}

// deliver brings a publication to a node, behind those that are on their way.
func (e *Late) deliver(r *route, p counted) {
	s := e.store
	times := 1
	switch {
	case !r.live:
		return
	case s.away || s.happens(s.trouble.Lost):
		times = 0
	case r.lose > 0:
		r.lose--
		times = 0
	case s.happens(s.trouble.Twice):
		times = 2
	}
	for range times {
		e.bring(r, func() { e.append(r, p) })
	}
	if times == 0 {
		s.at(s.soon().Add(noticed*s.trouble.Delay), func() { e.check(r) })
	}
}

// append appends a publication that has come.
func (e *Late) append(r *route, p counted) {
	if r.own != nil && p.number > 0 {
		if p.number <= r.own.seen[p.of] {
			return // it comes twice
		}
		e.miss(r, p.of, p.number-1)
		r.own.seen[p.of] = p.number
	}
	all := []channel.Publication{p.Publication}
	if plant := e.store.plant; plant != nil {
		all = plant(slices.Index(e.store.nodes, e), p.Publication)
	}
	for _, p := range all {
		if r.own != nil {
			p.Epoch = r.own.at.Epoch
		}
		if r.own != nil && p.Kind == channel.KindMessage && !p.Passing {
			p.Prev = r.own.at.Offset
			r.own.at.Offset++
			p.Offset = r.own.at.Offset
		}
		r.ch.Append(&p, &e.scratch)
	}
}

// miss is a gap where a publisher's publications up to a number are not all there.
func (e *Late) miss(r *route, of *Late, upTo uint64) {
	if upTo <= r.own.seen[of] {
		return
	}
	r.own.seen[of] = upTo
	r.own.at.Offset++
	r.ch.Append(&channel.Publication{Kind: channel.KindGap, Epoch: r.own.at.Epoch, Prev: r.own.at.Offset}, &e.scratch)
}

// bring does something with a channel's route, in its turn.
func (e *Late) bring(r *route, do func()) {
	e.behind(r, func() {
		if r.live && !e.store.away {
			do()
		}
	})
}

// behind does something when what is on its way to a channel is there.
func (e *Late) behind(r *route, do func()) {
	if due := e.store.soon(); due.After(r.due) {
		r.due = due
	}
	e.store.at(r.due, do)
}

// check has a node notice what was lost: it sees the newest publication once more.
func (e *Late) check(r *route) {
	if r.own != nil {
		for _, of := range e.store.nodes {
			upTo := of.sent[r.ch.Name()]
			e.bring(r, func() { e.miss(r, of, upTo) })
		}
		return
	}
	st := e.store.stream(r.ch.Name())
	if n := len(st.kept); n > 0 && st.kept[n-1].Offset == st.newest.Offset {
		p := st.kept[n-1]
		e.bring(r, func() { r.ch.Append(&p, &e.scratch) })
		return
	}
	newest := st.newest
	e.bring(r, func() { r.ch.Attached(newest) })
}

// Attach implements engine.Engine.
func (e *Late) Attach(ch *channel.Channel) {
	s, r := e.store, &route{ch: ch}
	s.at(time.Now(), func() { e.routes[ch.Name()] = append(e.routes[ch.Name()], r) })
	e.ask(func() {
		r.live = slices.Contains(e.routes[ch.Name()], r)
		head := s.head(s.stream(ch.Name()))
		if s.perNode(ch.Name()) {
			s.epochs++
			head = channel.Position{Epoch: channel.Epoch(s.epochs)}
			r.own = &ownOrder{head, make(map[*Late]uint64)}
			for _, n := range s.nodes {
				r.own.seen[n] = n.sent[ch.Name()]
			}
		}
		s.later(func() { // publications may be there before it
			if r.live {
				ch.Attached(head)
			}
		})
	}, func() { s.later(func() { ch.Failed(engine.ErrUnavailable) }) })
}

// Detach implements engine.Engine.
func (e *Late) Detach(ch *channel.Channel) {
	e.store.at(time.Now(), func() {
		name := ch.Name()
		e.routes[name] = slices.DeleteFunc(e.routes[name], func(r *route) bool {
			if r.ch == ch {
				r.live = false
			}
			return r.ch == ch
		})
		if len(e.routes[name]) == 0 {
			delete(e.routes, name)
		}
	})
}

// Fill implements engine.Engine.
func (e *Late) Fill(ch *channel.Channel) {
	e.ask(func() {
		st := e.store.stream(ch.Name())
		st.expire(e.store.keep(ch.Name()), time.Now().UnixMilli())
		kept, floor, head := slices.Clone(st.kept), channel.Position{Epoch: st.newest.Epoch, Offset: st.floor}, e.store.head(st)
		for _, r := range e.routes[ch.Name()] {
			if r.ch == ch {
				e.behind(r, func() { ch.Filled(kept, floor, head) })
			}
		}
	}, func() { e.store.later(func() { ch.Failed(engine.ErrUnavailable) }) })
}

// History implements engine.Engine.
func (e *Late) History(q engine.HistoryQuery, done func(channel.Collected, error)) {
	if q.Since != nil {
		since := *q.Since
		q.Since = &since
	}
	e.ask(func() {
		out, err := e.store.collect(q)
		e.store.later(func() { done(out, err) })
	}, func() { done(channel.Collected{}, engine.ErrUnavailable) })
}

// Presence implements engine.Engine.
func (e *Late) Presence(name string, most int, done func(engine.Presence, error)) {
	e.ask(func() {
		var list []*channel.ClientInfo
		users := make(map[string]bool)
		for _, n := range e.store.nodes {
			all, _ := n.present.List(name, 1<<30)
			list = append(list, all...)
		}
		for _, who := range list {
			users[who.User] = true
		}
		out := engine.Presence{Clients: len(list), Users: len(users)}
		if most > 0 && len(list) <= most {
			out = engine.Presence{List: append([]*channel.ClientInfo{}, list...)}
		}
		e.store.later(func() { done(out, nil) })
	}, func() { done(engine.Presence{}, engine.ErrUnavailable) })
}

// Remove implements engine.Engine.
func (e *Late) Remove(name string, done func(error)) {
	e.ask(func() {
		st := e.store.stream(name)
		st.floor, st.kept = st.newest.Offset, nil
		for _, n := range e.store.nodes {
			if ch := n.space.Find(name); ch != nil {
				ch.ForgetHistory()
			}
		}
		e.store.later(func() { done(nil) })
	}, func() { done(engine.ErrUnavailable) })
}

// Info implements engine.Engine.
func (e *Late) Info(done func(engine.Nodes, error)) {
	e.ask(func() {
		all := engine.Nodes{Partial: e.store.away}
		for _, n := range e.others() {
			all.List = append(all.List, n.info)
		}
		e.store.later(func() { done(all, nil) })
	}, func() { done(engine.Nodes{}, engine.ErrUnavailable) })
}

// others returns the other nodes.
func (e *Late) others() (others []*Late) {
	for _, n := range e.store.nodes {
		if n != e {
			others = append(others, n)
		}
	}
	return others
}

// Answer implements engine.Engine.
func (e *Late) Answer(f func(request []byte, reply func([]byte))) {
	e.store.Do(func() { e.answer = f })
}

// Ask implements engine.Engine. No node hears a question that fails.
func (e *Late) Ask(request []byte, done func(answers [][]byte, missing int)) {
	s, request := e.store, slices.Clone(request)
	e.ask(func() {
		var answers [][]byte
		missing := len(e.others())
		over := missing == 0
		end := func() { // on the store's goroutine, as all that follows
			if !over {
				over = true
				s.later(func() { done(answers, missing) })
			}
		}
		if over {
			s.later(func() { done(nil, 0) })
		}
		for _, n := range e.others() {
			replied := func(answer []byte) {
				if missing--; len(answer) > 0 && !over {
					answers = append(answers, answer)
				}
				if missing == 0 {
					end()
				}
			}
			s.later(func() {
				if n.answer == nil {
					replied(nil)
					return
				}
				n.answer(slices.Clone(request), func(answer []byte) {
					answer = slices.Clone(answer)
					s.later(func() {
						if !over {
							replied(answer)
						}
					})
				})
			})
		}
		s.at(time.Now().Add(engine.AskPatience), end)
	}, func() { done(nil, len(e.others())) })
}
