package loop

import (
	"errors"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
	"sluice/gateway/frame"
)

// A client's publication that finds its channel full, or another publisher at work, waits,
// and with it everything the client has sent behind it: nothing more is read. It is not decoded
// again. When the channel calls, the loop tries again in its turn, a bounded number of bytes at
// a time.
//
// While an engine is away (engine.ErrAway) nothing calls. A protocol that cannot answer its client lets the
// publication wait for that, too, for a while (PublishPatiently): the loop tries such ones again every
// awayRetry. One whose result is unknown is not tried again, because it may have been published.

const (
	// retryBytes is about what a turn publishes of what has waited, before it looks at
	// events again: some ms.
	retryBytes = 256 << 10
	// retryCost is what a retry counts beside its bytes.
	retryCost = 1 << 10
	// awayRetry is how often a publication is tried again while the engine is away.
	awayRetry = 250 * time.Millisecond
)

// Publishing is a client's publication that waits: a [Wait] and an engine.Caller. It belongs to
// its loop.
type Publishing struct {
	// Set before it is published.
	loop *Loop
	c    *Conn // nil: it does not wait any more
	name string
	to   Publisher

	payload, extra []byte           // copies
	ch             *channel.Channel // where it waits
	work           *encoding        // it is too large for the loop
	err            error            // why it waits; if answered the result
	receipt        channel.Receipt  // of the result
	binary         bool
	passing        bool
	answered       bool

	patient bool   // it waits while the engine is away
	away    bool   // it is in loop.away
	until   uint32 // loop time until when; 0 if the engine was not away
}

// Publisher is what a protocol does about a publication that has waited.
type Publisher interface {
	// MayPublish returns why it may no longer be published, or nil.
	MayPublish(c *Conn, channel string) error
	// Published is called when it was accepted or, with an error, refused.
	Published(c *Conn, err error)
	// Again returns the message that publishes it, see Wait.
	Again(c *Conn, channel string, payload []byte, binary bool) (m frame.Message, ok bool)
}

// Released implements engine.Caller.
func (p *Publishing) Released() { p.loop.Post(p) }

// Published implements engine.Caller.
func (p *Publishing) Published(r channel.Receipt, err error) { p.loop.Post(&published{p, r, err}) }

// published is posted when an engine answers.
type published struct {
	p       *Publishing
	receipt channel.Receipt
	err     error
}

// Deliver implements Message: the publication has its result.
func (m *published) Deliver(l *Loop) {
	if p := m.p; p.c == nil && m.err == nil {
		l.publishedBy(nil, p.name, p.payload, m.receipt) // its client has not waited for it
	}
	m.p.answer(m.receipt, m.err)
}

// answer notes the result of a publication, with which its connection goes on in its turn.
func (p *Publishing) answer(r channel.Receipt, err error) {
	p.answered, p.receipt, p.err = true, r, err
	p.loop.retries = append(p.loop.retries, p)
}

// Deliver implements Message: the channel calls.
func (p *Publishing) Deliver(l *Loop) {
	switch {
	case p.c == nil:
		p.Cancel()
	case p.work != nil:
		p.work.called(p)
	default:
		l.retries = append(l.retries, p)
	}
}

// Cancel implements Wait: it takes the publication out of its channel's queue, for good.
func (p *Publishing) Cancel() {
	p.c = nil
	if p.ch != nil {
		p.ch.Forget(p)
	}
}

// Moot implements Wait: what a client has published goes to others.
func (*Publishing) Moot(*Conn) bool { return false }

// Size implements Wait.
func (p *Publishing) Size() int { return cap(p.payload) + cap(p.extra) }

// Again implements Wait. Its result is not known: else the loop would have gone on with it.
func (p *Publishing) Again(c *Conn) (frame.Message, bool) {
	if p.answered || p.err == engine.ErrPending {
		return frame.Message{}, false
	}
	return p.to.Again(c, p.name, p.payload, p.binary)
}

// retrySome continues with some of the publications that were called or answered.
func (l *Loop) retrySome() {
	i := 0
	for bytes := 0; i < len(l.retries) && bytes < retryBytes; i++ {
		p := l.retries[i]
		l.retries[i] = nil
		if p.c == nil {
			continue // it does not wait any more
		}
		bytes += retryCost + len(p.payload)
		if !p.c.Resume() {
			p.Cancel()
		}
	}
	rest := copy(l.retries, l.retries[i:])
	clear(l.retries[rest:])
	if l.retries = l.retries[:rest]; rest > 0 {
		l.poller.Wake()
	} else if cap(l.retries) > inboxKeep {
		l.retries = nil
	}
}

// Filter runs the filter of the server's program, if there is one, for a message that a client
// wants to publish. It reports whether the message may be published.
func (c *Conn) Filter(name string, payload []byte, binary bool) bool {
	l := c.loop
	if l.cfg.Filter == nil {
		return true
	}
	l.inFilter = true
	may := l.cfg.Filter(name, payload, binary, c.id)
	l.inFilter = false
	return may
}

// Publish publishes for the client; ch is nil if only the name is known. It returns the result
// or, if the publication has to wait, a copy of it, with which the caller calls Then.
func (c *Conn) Publish(name string, ch *channel.Channel, payload []byte, binary bool, extra []byte) (*Publishing, error) {
	return c.PublishAs(Decided{Name: name, Channel: ch, Payload: payload, Binary: binary, Extra: extra})
}

// PublishPatiently is Publish for a client that gets no answer, and cannot try again itself: the
// publication waits also while the engine is away, as long as other messages wait for an engine.
func (c *Conn) PublishPatiently(name string, ch *channel.Channel, payload []byte, binary bool, extra []byte) (*Publishing, error) {
	return c.PublishAs(Decided{Name: name, Channel: ch, Payload: payload, Binary: binary, Extra: extra, Patient: true})
}

// Decided is a publication as somebody has decided that it is to be.
type Decided struct {
	Name           string
	Channel        *channel.Channel // nil if only the name is known
	Payload, Extra []byte
	Binary         bool
	Passing        bool // as in channel.Publication
	Patient        bool // as PublishPatiently
}

// PublishAs is Publish with all that can be said of a publication.
func (c *Conn) PublishAs(d Decided) (*Publishing, error) {
	c.Plant("publish")
	l := c.loop
	p := l.spare
	if p == nil {
		p = &Publishing{loop: l}
	}
	l.spare = nil
	p.c, p.name, p.ch, p.binary, p.passing, p.patient, p.until = c, d.Name, d.Channel, d.Binary, d.Passing, d.Patient, 0
	err := p.try(d.Payload, d.Extra)
	if !p.waits(err) {
		if err == nil {
			p.accepted(d.Payload)
		}
		p.c, p.ch = nil, nil
		l.spare = p
		return nil, err
	}
	n := len(d.Payload)
	both := append(append(make([]byte, 0, n+len(d.Extra)), d.Payload...), d.Extra...)
	p.payload, p.extra, p.err = both[:n:n], both[n:], err
	return p, nil
}

// Then returns the publication as a Wait, for to.
func (p *Publishing) Then(to Publisher) Wait {
	p.to = to
	p.wait()
	return p
}

// waits reports whether the publication has to wait.
func (p *Publishing) waits(err error) bool {
	return errors.Is(err, channel.ErrFull) || err == channel.ErrLarge || err == engine.ErrPending || err == errSilent || p.waitsForEngine(err)
}

// waitsForEngine reports whether the publication is tried again because the engine is away.
func (p *Publishing) waitsForEngine(err error) bool {
	if !p.patient || !errors.Is(err, engine.ErrAway) {
		return false
	}
	if p.until == 0 {
		p.until = p.loop.now + waitSeconds
	}
	return p.loop.now < p.until
}

// Silent reports whether nothing may be published, because the loop is frozen. Then m is delivered when it goes on, unless
// another process has its connections.
func (l *Loop) Silent(m Message) bool {
	if l.silent {
		l.silenced = append(l.silenced, m)
	}
	return l.silent
}

// errSilent: the loop is frozen, and publishes nothing.
var errSilent = errors.New("loop: frozen")

// try hands the publication to the engine.
func (p *Publishing) try(payload, extra []byte) (err error) {
	l := p.loop
	if l.silent {
		return errSilent
	}
	l.sending = channel.Publication{Payload: payload, Binary: p.binary, Passing: p.passing, From: p.c.id, Extra: extra, At: l.time.UnixMilli()}
	p.ch, p.receipt, err = engine.Publish(l.engine, l.space, p.name, p.ch, &l.sending, &l.encode, p)
	l.sending = channel.Publication{} // it lies in a buffer that is let go
	return err
}

// accepted counts the publication, and notifies of it.
func (p *Publishing) accepted(payload []byte) {
	p.loop.publishedBy(p.c, p.name, payload, p.receipt)
	class := 0
	if p.ch != nil {
		class = p.ch.Class()
	} else { // nobody on this node has the channel
		class = p.loop.space.Class(p.name)
	}
	p.loop.stats.ByClass[class].Publications.Add(1)
}

// wait begins to wait, for what err says.
func (p *Publishing) wait() {
	switch {
	case p.err == engine.ErrPending:
	case p.err == errSilent:
		p.loop.Silent(p)
	case p.err == channel.ErrLarge:
		p.work = &encoding{from: p.c.id}
		p.work.start(p)
	case errors.Is(p.err, engine.ErrAway):
		p.answered = false
		p.loop.retryLater(p)
	case !errors.Is(p.err, channel.ErrTurn):
		p.loop.stats.PushBacks.Add(1)
	}
}

// retryLater has the loop try a publication again after awayRetry. One timer serves all of them.
func (l *Loop) retryLater(p *Publishing) {
	if p.away {
		return
	}
	p.away = true
	if l.away = append(l.away, p); len(l.away) > 1 {
		return
	}
	if l.awayTimer == nil {
		l.awayTimer = time.AfterFunc(awayRetry, func() { l.Post(awayOver{}) })
	} else {
		l.awayTimer.Reset(awayRetry)
	}
}

// awayOver is posted by the loop's timer.
type awayOver struct{}

// Deliver has the publications tried again that wait because the engine is away.
func (awayOver) Deliver(l *Loop) {
	for _, p := range l.away {
		p.away = false
	}
	l.retries = append(l.retries, l.away...)
	l.away = nil
}

// Resume implements Wait.
func (p *Publishing) Resume(c *Conn) Wait {
	if p.answered && p.waitsForEngine(p.err) {
		p.work = nil
		p.wait()
		return p
	}
	if !p.answered {
		if p.err = p.to.MayPublish(c, p.name); p.err == nil {
			p.err = p.try(p.payload, p.extra)
		}
		if p.waits(p.err) {
			p.wait()
			return p
		}
	}
	return p.over(c)
}

// Late implements Wait. Only an engine can be late: a full channel has the bound of those that
// hold it up.
func (p *Publishing) Late(c *Conn) Wait {
	if p.err != engine.ErrPending {
		return p
	}
	p.err = engine.ErrUnavailable
	return p.over(c)
}

// over ends the publication with its result.
func (p *Publishing) over(c *Conn) Wait {
	if p.err == nil {
		p.accepted(p.payload)
	}
	if p.c = nil; p.err != nil {
		p.Cancel() // it may have been refused before its channel saw it
	}
	p.to.Published(c, p.err)
	return nil
}
