//go:build faults

package gateway

import (
	"context"
	"errors"
	"time"

	"sluice/gateway/access/auth"
	"sluice/gateway/api"
	"sluice/gateway/channel"
	"sluice/poller"
)

// step does one thing.
func (m *machine) step(op, arg byte) {
	i := int(arg) & 3
	p := m.peers[i]
	if op &= 63; p == nil || p.sock.closed && op < 40 {
		m.arrive(i, m.next(), m.next())
		return
	}
	switch {
	case op < 12:
		p.talk(m.next(), m.next())
		if arg&4 != 0 {
			p.send(len(p.unsent))
			m.ready(p)
		}
	case op < 18:
		p.mutter(arg>>2, m.next())
		if op&1 != 0 {
			p.send(len(p.unsent))
			m.ready(p)
		}
	case op < 24:
		p.send(int(arg>>2) << (op & 3 * 2))
		m.ready(p)
	case op < 28:
		m.ready(p)
	case op < 32: // the peer reads, or does not
		p.sock.space = [...]int{0, 0, 1, 5, 100, 2000, 1 << 30, 1 << 30}[arg>>2&7]
		if arg&32 != 0 {
			m.ready(p)
		}
	case op == 32:
		p.sock.fin = true
		m.ready(p)
	case op == 33:
		p.sock.reset = true
		if arg&4 != 0 {
			p.sock.in = nil
		}
		if arg&8 != 0 {
			m.ready(p)
		}
	case op == 34:
		m.spurious(p, poller.Events(arg>>2&7))
	case op == 35 && arg >= 192:
		m.panics = int(arg>>2&15) + 1
	case op < 40:
		m.fault(arg, m.next())
	case op < 48:
		m.turn()
	case op < 50:
		m.tick(1 + int(arg>>6))
	case op < 52:
		m.pass([...]time.Duration{time.Millisecond, 25 * time.Millisecond, 300 * time.Millisecond, 1100 * time.Millisecond}[arg&3])
		m.turn()
	case op < 57:
		m.publish(machineChannels[arg%3], machineSizes[arg>>2&7], arg>>5)
	case op == 57:
		m.verify(arg)
	case op == 58:
		m.retry()
	case op == 59:
		m.starve(arg&1 != 0)
	case op < 63:
		m.ask(arg, m.next())
	case arg > 250:
		m.l.post(stop{})
	default:
		m.refuse = [...]error{channel.ErrFull, channel.ErrTooBig, errors.New("refused by the test"), channel.ErrGone}[arg&3]
	}
}

// spurious reports what may be true no more.
func (m *machine) spurious(p *machinePeer, ev poller.Events) {
	for _, c := range m.l.conns {
		if c.FD() == p.sock.fd && c.Active() {
			if ev &= c.Interest(); ev != 0 {
				c.Ready(ev)
			}
			return
		}
	}
}

// fault makes a call fail that comes soon.
func (m *machine) fault(arg, after byte) {
	calls := [...]poller.Call{poller.CallRead, poller.CallWrite, poller.CallWrite, poller.CallMod, poller.CallAdd, poller.CallDel, poller.CallShutdown, poller.CallWrite}
	if len(m.faults) < 4 {
		m.faults = append(m.faults, callFault{calls[arg&7], int(after & 7), 1 + int(arg>>3)%3})
	}
}

// tick lets seconds pass, of loop time and of all other.
func (m *machine) tick(n int) {
	for range n {
		m.pass(time.Second)
		m.l.lastTick = time.Now().Add(-time.Second)
		m.l.post(tick{})
		m.turn()
		for range 8 {
			if m.l.checked < len(m.l.due) {
				m.turn()
			}
		}
		m.server.space.Trim(time.Now().UnixMilli())
	}
}

// publish publishes from outside.
func (m *machine) publish(name string, size int, times byte) {
	for range 1 + times {
		p := &machinePublisher{m: m, name: name, payload: []byte(m.say(size))}
		if p.publish() {
			continue
		}
		if len(m.waits) < 8 {
			m.waits = append(m.waits, p)
		} else if ch := m.server.space.Find(name); ch != nil {
			ch.Forget(p)
		}
	}
}

// publish is done when it returns true; else its time comes again.
func (p *machinePublisher) publish() bool {
	m := p.m
	s := m.server
	for range 3 {
		ch := s.space.Find(p.name)
		if ch == nil && s.space.Keeps(p.name) {
			ch, _ = s.space.Open(p.name)
		}
		pub := channel.Publication{Payload: p.payload, At: m.now.UnixMilli()}
		p.again = false
		_, err := s.engine.Publish(p.name, ch, &pub, &m.l.encode, p)
		switch {
		case errors.Is(err, channel.ErrGone):
			continue
		case errors.Is(err, channel.ErrFull):
			return false
		case err != nil && ch != nil:
			ch.Forget(p) // the engine has refused it, and the channel may have called
		}
		break
	}
	return true
}

// retry lets those try again that were told to; false when there are none.
func (m *machine) retry() (some bool) {
	rest := m.waits[:0]
	for _, p := range m.waits {
		if p.again {
			some = true
			if p.publish() {
				continue
			}
		}
		rest = append(rest, p)
	}
	m.waits = rest
	return some
}

// verify lets a token's verdict come; false when none is waited for.
func (m *machine) verify(how byte) bool {
	x := m.server.verifiers.Take()
	if x == nil {
		return false
	}
	switch how >> 4 & 7 {
	case 1:
		x.Err = auth.ErrExpired
	case 2:
		x.Err = auth.ErrUnavailable
	case 3:
		x.Err = &auth.InvalidError{}
	default:
		now := time.Now().Unix()
		x.Connection = auth.Connection{User: "u" + string('0'+how&1), Channels: []string{"b"}, Info: []byte(`{"n":1}`)}
		x.Subscription = auth.Subscription{User: x.Connection.User, Channel: machineChannels[how>>1&1], Info: []byte(`{}`)}
		if how&8 != 0 {
			x.Connection.ExpireAt, x.Subscription.ExpireAt = now+int64(how>>6)-1, now+int64(how>>6)-1
		}
	}
	x.Done()
	return true
}

// ask does what the server's API or an operator asks for.
func (m *machine) ask(what, how byte) {
	n, l := (*node)(m.server), m.l
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // nobody waits for the answer
	user, name := [...]string{"", "u0", "u1", ""}[how&3], machineChannels[how>>2%3]
	switch what % 12 {
	case 0, 1:
		n.Subscribe(ctx, &api.SubscribeRequest{User: user, Channel: name, Info: []byte(`{}`)}) // ignored: see above; so are the others
	case 2, 3:
		n.Unsubscribe(ctx, &api.UnsubscribeRequest{User: user, Channel: name})
	case 4:
		n.Unsubscribe(ctx, &api.UnsubscribeRequest{User: user})
	case 5:
		n.Disconnect(ctx, &api.DisconnectRequest{User: user})
	case 6:
		n.Refresh(ctx, &api.RefreshRequest{User: user, Expired: how&16 != 0, ExpireAt: time.Now().Unix() + int64(how>>6) - 1, Info: []byte(`{"n":2}`)})
	case 7:
		n.HistoryRemove(ctx, name)
	case 8:
		id := m.server.lastID.Load() - uint64(how&3)
		l.post(call(func(l *loop) { l.end(id) }))
	case 9:
		l.post(call(func(l *loop) { l.inspect(inspectKeys["lag"], 3) }))
	case 10:
		n.Info(ctx)
	case 11:
		for _, c := range l.conns { // the process's memory is low
			if c.counted > 0 {
				l.heldMax = int(c.counted) - 1
				c.step((*conn).settle)
				l.heldMax = 48 << 10
				break
			}
		}
	}
}
