package gateway

import (
	"errors"

	"sluice/gateway/channel"
	"sluice/gateway/engine"

	"github.com/gobwas/ws"
)

// A client's publication that finds its channel full, or another publisher at work, waits,
// and with it everything the client has sent behind it: nothing more is read. The bytes
// stay where they are, however often it is tried, and a command of Centrifugo's protocol is
// not decoded again. When the channel calls, the loop tries again in its turn, a bounded
// number of bytes at a time.

const (
	// retryBytes is about what a turn publishes of what has waited, before it looks at
	// events again: some ms.
	retryBytes = 256 << 10
	// retryCost is what a retry counts beside its bytes.
	retryCost = 1 << 10
)

// pending is a client's publication that waits. It belongs to its loop, and is for one
// publication: a call that comes late finds that nobody waits for it any more. It implements
// engine.Caller.
type pending struct {
	// Set before it is published.
	loop *loop
	c    *conn // nil: nobody waits any more
	name string

	pub  channel.Publication
	own  bool             // its payload does not lie in the input's buffer
	id   uint32           // of the command that is to be answered
	ch   *channel.Channel // where it waits
	err  error            // why it waits
	work *encoding        // it is too large for the loop
}

// Released implements engine.Caller.
func (p *pending) Released() { p.loop.post(p) }

// Published implements engine.Caller. The local engine answers at once.
func (p *pending) Published(channel.Receipt, error) {}

// deliver: the channel calls.
func (p *pending) deliver(l *loop) {
	switch {
	case p.c == nil:
		p.giveUp()
	case p.work != nil:
		p.work.called(p)
	default:
		l.retries = append(l.retries, p)
	}
}

// giveUp takes the publication out of its channel's queue, for good.
func (p *pending) giveUp() {
	p.c = nil
	if p.ch != nil {
		p.ch.Forget(p)
	}
}

// size is what it holds beside the input's buffer.
func (p *pending) size() int {
	if p == nil || !p.own {
		return 0
	}
	return cap(p.pub.Payload) + cap(p.pub.Extra)
}

// retrySome lets some of the publications that were called be published.
func (l *loop) retrySome() {
	i := 0
	for bytes := 0; i < len(l.retries) && bytes < retryBytes; i++ {
		p := l.retries[i]
		l.retries[i] = nil
		c := p.c
		if c == nil {
			continue // it gave up
		}
		bytes += retryCost + len(p.pub.Payload)
		c.step((*conn).tryAgain)
	}
	rest := copy(l.retries, l.retries[i:])
	clear(l.retries[rest:])
	if l.retries = l.retries[:rest]; rest > 0 {
		l.poller.Wake()
	} else if cap(l.retries) > inboxKeep {
		l.retries = nil
	}
}

// tryAgain goes on with what was put off.
func (c *conn) tryAgain() {
	c.resume()
	c.settle()
}

// publish publishes a client's message. false: it has to wait, in c.in.pending; the caller
// puts off what comes behind it, and then lets it wait.
func (c *conn) publish(name string, ch *channel.Channel, pub *channel.Publication, id uint32) bool {
	c.plant("publish")
	l := c.loop
	p := l.spare
	if p == nil {
		p = &pending{loop: l}
	}
	l.spare = nil
	p.c, p.name, p.ch = c, name, ch
	err := c.try(p, pub)
	if !waits(err) {
		p.c, p.ch = nil, nil
		l.spare = p
		c.published(id, err)
		return true
	}
	p.pub, p.id, p.own, p.err = *pub, id, true, err
	c.input().pending = p
	return false
}

// waits reports whether a publication that was refused is to be tried again.
func waits(err error) bool { return errors.Is(err, channel.ErrFull) || err == channel.ErrLarge }

// await lets the connection wait for its publication.
func (c *conn) await() {
	c.bits |= bitParked
	switch p := c.in.pending; {
	case p.err == channel.ErrLarge:
		p.work = new(encoding)
		p.work.start(p)
	case !errors.Is(p.err, channel.ErrTurn):
		c.loop.stats.pushBacks.Add(1)
	}
}

// try hands a publication to the engine.
func (c *conn) try(p *pending, pub *channel.Publication) error {
	l := c.loop
	l.sending = *pub
	var err error
	p.ch, _, err = engine.Publish(l.engine, l.space, p.name, p.ch, &l.sending, &l.encode, p)
	l.sending = channel.Publication{} // it lies in a buffer that is let go
	return err
}

// published does what is due when a publication was taken or refused for good.
func (c *conn) published(id uint32, err error) {
	if err == nil {
		c.loop.stats.publications.Add(1)
	}
	c.protocol().published(c, id, err)
}

// publishPending publishes what has waited. false: it waits again.
func (c *conn) publishPending() bool {
	p := c.in.pending
	var err error
	if p.work != nil {
		err = p.work.err
	} else if err = c.protocol().mayPublish(c, p.name); err == nil {
		if err = c.try(p, &p.pub); waits(err) {
			p.err = err
			c.await()
			return false
		}
	}
	c.in.pending = nil
	if p.c = nil; err != nil {
		p.giveUp() // the engine may have refused it before its channel saw it
	}
	c.published(p.id, err)
	return true
}

// putOff keeps a message (op, payload) that cannot be processed yet, and the
// bytes behind it. Without a message op is OpContinuation.
func (c *conn) putOff(op ws.OpCode, payload, rest []byte) {
	in := c.input()
	buf := in.again(payload, rest)
	if buf == nil {
		buf = make([]byte, 0, len(payload)+len(rest)) // a new one: payload and rest may lie in the loop's
		buf = append(append(buf, payload...), rest...)
	}
	in.op, in.buf = op, buf
	in.payload, in.rest = buf[:len(payload):len(payload)], buf[len(payload):]
}

// again returns payload and rest in the buffer they were put off in before, if they are
// the end of it and it is not much larger; nil where they have to be copied.
func (in *input) again(payload, rest []byte) []byte {
	n := len(payload) + len(rest)
	start := len(in.resumed) - n
	if n == 0 || start < 0 || cap(in.resumed) > 2*n+bufferSlack {
		return nil
	}
	buf := in.resumed[start:]
	if len(payload) > 0 && &payload[0] != &buf[0] || len(rest) > 0 && &rest[0] != &buf[len(payload)] {
		return nil
	}
	return buf
}

// bufferSlack is how much larger than half used a buffer may be to be kept.
const bufferSlack = 512

// resume processes what was put off.
func (c *conn) resume() {
	in := c.in
	if in == nil || in.buf == nil || c.phase != phaseOpen {
		return
	}
	c.bits &^= bitParked
	c.excuse()
	if in.pending != nil && !c.publishPending() {
		return
	}
	if c.phase != phaseOpen {
		return
	}
	op, payload, rest := in.op, in.payload, in.rest
	in.resumed = in.buf
	in.buf, in.payload, in.rest = nil, nil, nil
	if op == ws.OpContinuation || c.protocol().resume(c, op, payload, rest) {
		c.feed(rest)
	}
	if c.in != nil {
		c.in.resumed = nil
		c.restInput()
	}
	if !c.has(bitBlocked) && c.out != nil {
		c.flush() // what was done before it has to wait again
	}
	// A peer that hung up meanwhile is not watched any more: what the kernel has of
	// it is read now.
	for !c.Active() && c.phase == phaseOpen && c.reads() {
		c.read(true)
	}
}

// unpark gives up a message that waits.
func (c *conn) unpark() {
	if c.in != nil {
		c.in.giveUp()
	}
	c.bits &^= bitParked
}

// giveUp drops the publication that waits.
func (in *input) giveUp() {
	in.verifying = nil
	if in.pending != nil {
		in.pending.giveUp()
		in.pending = nil
	}
}
