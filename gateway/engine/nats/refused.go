package nats

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"sluice/gateway/engine"

	natsgo "github.com/nats-io/nats.go"
)

// Subscriptions that the servers refuse. Where a new channel's is refused, the channel fails. But permissions can
// change at any time, and limits with the next connection: then channels that have subscribers hear nothing.
// They get a gap, and are subscribed again and again; those with a stored history are read from their streams
// meanwhile. A server names the subject for which there is no permission. Of too many subscriptions it names none:
// then a message is sent to each, and those that do not get theirs were refused. The node's own subscriptions can be
// among them, so it connects anew, with those of channels that fit.

const (
	refusedAgain = 5 * time.Second // between attempts to subscribe again,
	refusedMost  = 256             // of so many channels of a lane
	triedMost    = 1024            // subscriptions of a lane that are tried at once: its room for live messages is bounded
)

// full is called when a server has refused a subscription because there are too many. A new one is tried when it is
// made; where the connection is new as well, it can be any.
func (e *Engine) full() {
	if c := e.connection.Load() + 1; e.verified.Swap(c) != c {
		e.verifying.Store(int64(len(e.lanes)))
		e.shed.Store(false)
		for _, l := range e.lanes {
			l.post(func() { l.takeLive(); l.verify(slices.Clone(l.list), c) })
		}
	}
}

// verify tries the subscriptions of routes on one connection. Where that is replaced meanwhile, it ends: all are tried
// anew, if the next one's server refuses any.
func (l *lane) verify(routes []*route, connection uint64) {
	if l.e.connection.Load()+1 != connection {
		return
	}
	var some []*route
	for ; len(routes) > 0 && len(some) < triedMost; routes = routes[1:] {
		if r := routes[0]; l.current(r) && r.sub != nil && !r.trying {
			r.heard = false
			some = append(some, r)
		}
	}
	if len(some) == 0 {
		if l.e.verifying.Add(-1) == 0 && l.e.shed.Load() {
			l.reconnect()
		}
		return
	}
	l.later(func() {
		for _, r := range some {
			_ = l.tryOnce(r) // ignored: the connection broke, which is noticed below
		}
		l.marked = append(l.marked, func(unmarked error) { // on the receiving goroutine
			l.takeLive()
			if l.e.connection.Load()+1 != connection { // the next connection's refusals are its own
				return
			}
			for _, r := range some {
				if !r.heard {
					l.e.shed.Store(true)
					l.refuse(r)
				}
			}
			if unmarked != nil { // the lane's own subscription was refused
				l.reconnect()
				return
			}
			l.verify(routes, connection)
		})
	})
}

// reconnect makes another connection, with the subscriptions that there are now.
func (l *lane) reconnect() {
	l.later(func() { _ = l.e.link.main.ForceReconnect() }) // ignored: the connection has been closed
}

// tryOnce sends a message to a route's subscription. It runs on the sending goroutine.
func (l *lane) tryOnce(r *route) error {
	return l.e.link.main.Publish(l.e.live+r.token, appendMessage(nil, &message{probe: true}))
}

// deniedLive is called when a server denies something. It reports whether that is a channel's subscription.
func (e *Engine) deniedLive(what, subject string) bool {
	t, live := strings.CutPrefix(subject, e.live)
	name, ok := channelOf(t)
	if what != "Subscription" || !live || !ok {
		return false
	}
	l := e.lane(name)
	l.post(func() {
		if r := l.routes[t]; r != nil {
			l.refuse(r)
		}
	})
	return true
}

// refuse notes that the server refuses a route's subscription.
func (l *lane) refuse(r *route) {
	switch {
	case !l.current(r) || r.refused:
	case !r.told:
		l.fail(r, engine.ErrUnavailable)
	default:
		l.unsubscribe(r)
		r.refused = true
		l.refused = append(l.refused, r)
		if l.e.refusals.Add(1) == 1 {
			l.e.log.Error("NATS refuses subscriptions: subscribers of the channels get a gap, and publications with a history late, until it accepts them (permissions, max_subscriptions)", "channel", r.name)
			l.e.changed()
		}
		if !r.keeps {
			l.lost(r, engine.GapRefused)
		}
		l.arm()
	}
}

// accepted notes that a route that was refused has a subscription, or needs none any more.
func (l *lane) accepted(r *route) {
	if !r.refused {
		return
	}
	r.refused = false
	if l.e.refusals.Add(-1) == 0 {
		l.e.log.Info("NATS refuses no subscriptions any more")
		l.e.changed()
	}
}

// subscribeAgain subscribes those again that were refused, when it is time.
func (l *lane) subscribeAgain(now time.Time) {
	if len(l.refused) == 0 || now.Before(l.refusedNext) || !l.e.connected.Load() {
		return
	}
	l.refusedNext = now.Add(cmp.Or(l.e.cfg.test.again, refusedAgain))
	n := min(len(l.refused), refusedMost)
	some := l.refused[:n:n]
	l.refused = append([]*route(nil), l.refused[n:]...)
	some = slices.DeleteFunc(some, func(r *route) bool { return !l.current(r) })
	by := make(map[*stream][]*route)
	behind := l.comparing > 0 // workers have not done what they were asked before: more would only wait in front of others
	for _, r := range some {
		if r.heard = false; r.st != nil && r.busy == nil && !behind {
			by[r.st] = append(by[r.st], r)
		}
	}
	for st, routes := range by {
		l.compare(st, routes, true)
	}
	connection := l.e.connection.Load()
	l.later(func() {
		subs := make([]*natsgo.Subscription, len(some))
		for i, r := range some {
			var err error
			if subs[i], err = l.e.link.main.ChanSubscribe(l.e.live+r.token, l.live); err == nil {
				_ = l.tryOnce(r) // ignored: it will not be heard
			}
		}
		l.marked = append(l.marked, func(error) { // on the receiving goroutine
			l.takeLive()
			same := l.e.connection.Load() == connection // otherwise the next one can have refused what this one accepted
			all := true
			for i, r := range some {
				switch r.sub, r.dropped = subs[i], 0; {
				case !l.current(r):
					l.unsubscribe(r)
				case same && r.heard && r.sub != nil:
					l.regain(r)
				default:
					l.unsubscribe(r)
					l.refused = append(l.refused, r)
					all = false
				}
			}
			if all {
				l.refusedNext = time.Time{}
			}
			l.arm()
		})
	})
}

// regain has a route go on whose subscription was accepted again.
func (l *lane) regain(r *route) {
	l.accepted(r)
	r.publishers, r.since = nil, l.e.uptime() // what they have published meanwhile is in the gap
	l.e.nodes.Load().barrier(func() {
		l.post(func() {
			switch {
			case !l.current(r):
			case r.keeps:
				l.catchUp(r)
			default:
				l.lost(r, engine.GapRefused)
			}
		})
	})
}

// unsubscribe ends a route's subscription.
func (l *lane) unsubscribe(r *route) {
	if sub := r.sub; sub != nil {
		r.sub = nil
		l.later(func() { _ = sub.Unsubscribe() }) // ignored: the connection has been closed
	}
}
