//go:build faults

package loop

import (
	"errors"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
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
		m.publish(MachineChannels[arg%3], machineSizes[arg>>2&7], arg>>5)
	case op == 57 && arg&1 != 0:
		m.append(MachineChannels[arg>>1%3], machineSizes[arg>>3&7], m.next())
	case op == 57:
		m.server.Verify(arg)
	case op == 58 && arg&1 != 0:
		m.answer(arg >> 1)
	case op == 58:
		m.retry()
	case op == 59:
		m.starve(arg&1 != 0)
	case op < 63:
		m.ask(arg, m.next())
	case arg > 250:
		m.l.Post(stop{over: time.Duration(arg&1) * time.Second})
	case arg&4 != 0:
		m.later = 1 + int(arg>>5)
	default:
		m.refuse = [...]error{channel.ErrFull, channel.ErrTooBig, errors.New("refused by the test"), channel.ErrGone, engine.ErrAway, engine.ErrUnavailable, channel.ErrFull, channel.ErrTooBig}[arg&3|arg>>3&4]
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
		m.l.Post(Tick{})
		m.turn()
		for range 8 {
			if m.l.checked < len(m.l.due) {
				m.turn()
			}
		}
		m.Space.Trim(m.now.UnixMilli())
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
		} else if ch := m.Space.Find(name); ch != nil {
			ch.Forget(p)
		}
	}
}

// append appends what other nodes have published, which has its position; or it is noticed that something of that
// is missing, or that the order has begun anew.
func (m *machine) append(name string, size int, how byte) {
	ch := m.Space.Find(name)
	if ch == nil {
		return
	}
	m.given[ch] = true
	at := ch.Newest()
	p := channel.Publication{Kind: channel.KindGap, Epoch: at.Epoch, Prev: at.Offset + uint64(how>>3&1)}
	switch how & 7 {
	case 0:
		p.Kind, p.Epoch, p.Prev = channel.KindReset, at.Epoch+1, uint64(how>>3)
		ch.Append(&p, &m.l.encode)
	case 1:
		ch.Append(&p, &m.l.encode)
	default:
		for range 1 + how>>4 {
			payload := []byte(m.say(size))
			m.order[saidIn(payload)] = m.taken[name]
			m.taken[name]++
			at = ch.Newest()
			ch.Append(&channel.Publication{Payload: payload, Epoch: at.Epoch, Offset: at.Offset + 1, Prev: at.Offset, At: m.now.UnixMilli()}, &m.l.encode)
		}
	}
}

// publish is done when it returns true; else its time comes again.
func (p *machinePublisher) publish() bool {
	m := p.m
	for range 3 {
		ch := m.Space.Find(p.name)
		if ch == nil && m.Space.Keeps(p.name) {
			ch, _ = m.Space.Open(p.name)
		}
		pub := channel.Publication{Payload: p.payload, At: m.now.UnixMilli()}
		p.again = false
		_, err := m.Engine.Publish(p.name, ch, &pub, &m.l.encode, p)
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

// ask does what the server's API or an operator asks for.
func (m *machine) ask(what, how byte) {
	l := m.l
	switch what := int(what) % 12; what {
	default:
		m.server.Ask(m.set, what, how)
	case 8:
		id := m.set.lastID.Load() - uint64(how&3)
		l.Post(call(func(l *Loop) { l.End(id) }))
	case 9:
		l.Post(call(func(l *Loop) { l.Describe((*Conn).Lag, 3) }))
	case 11:
		for _, c := range l.conns { // the process's memory is low
			if c.Counted > 0 {
				l.heldMax = int(c.Counted) - 1
				c.step((*Conn).Settle)
				l.heldMax = 48 << 10
				break
			}
		}
	}
}
