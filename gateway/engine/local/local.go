// Package local is the engine of a single node: what it is asked for is in this node's channels
// and tables, and it answers at once.
package local

import (
	"sluice/gateway/channel"
	"sluice/gateway/engine"
	"sluice/gateway/presence"
)

// Engine implements engine.Engine. The zero Engine can publish.
type Engine struct {
	Space   *channel.Space
	Present *presence.Table
}

// Publish implements engine.Engine. Where nobody on this node has the channel nothing is
// created, and the receipt is zero.
func (Engine) Publish(name string, ch *channel.Channel, p *channel.Publication, s *channel.Scratch, c engine.Caller) (channel.Receipt, error) {
	if ch == nil {
		return channel.Receipt{}, nil
	}
	if c == nil {
		return ch.Publish(p, s, nil) // not c: a nil Caller in a Waiter would not be nil
	}
	return ch.Publish(p, s, c)
}

// Attach implements engine.Engine. It is not called, as Detach and Fill are not: the channels of a
// space that is not remote begin with their order.
func (Engine) Attach(*channel.Channel) {}

// Detach implements engine.Engine.
func (Engine) Detach(*channel.Channel) {}

// Fill implements engine.Engine.
func (Engine) Fill(*channel.Channel) {}

// History implements engine.Engine.
func (e Engine) History(q engine.HistoryQuery, done func(channel.Collected, error)) {
	kept, ok := e.Space.Collect(q.Channel, q.Since, q.Back, q.Most, q.Now)
	if !ok {
		done(channel.Collected{}, engine.ErrEpoch)
		return
	}
	done(kept, nil)
}

// Presence implements engine.Engine.
func (e Engine) Presence(name string, most int, done func(engine.Presence, error)) {
	var p engine.Presence
	if most > 0 {
		p.List, _ = e.Present.List(name, most)
	} else {
		p.Clients, p.Users = e.Present.Count(name)
	}
	done(p, nil)
}

// Remove implements engine.Engine.
func (e Engine) Remove(name string, done func(error)) {
	if ch := e.Space.Find(name); ch != nil {
		ch.ForgetHistory()
	}
	done(nil)
}

// Info implements engine.Engine.
func (Engine) Info(done func(engine.Nodes, error)) { done(engine.Nodes{}, nil) }

// Ask implements engine.Engine: there is no other node.
func (Engine) Ask(_ []byte, done func([][]byte, int)) { done(nil, 0) }

// Answer implements engine.Engine.
func (Engine) Answer(func([]byte, func([]byte))) {}
