package centrifugo

import (
	"errors"
	"slices"

	"sluice/gateway/access"
	"sluice/gateway/access/auth"
	"sluice/gateway/access/namespace"
	"sluice/gateway/engine"
	"sluice/gateway/frame"
	"sluice/gateway/loop"

	"github.com/centrifugal/protocol"
)

// What commands wait for.

// waiting is a command that waits, and the commands behind it in its message.
type waiting struct {
	loop.Wait // what it waits for; nil for the replies to those before it
	protocol  *Protocol
	rest      loop.Kept
}

// Resume implements loop.Wait.
func (w *waiting) Resume(c *loop.Conn) loop.Wait {
	if w.Wait == nil {
		return w.protocol.Client(c).commands(w.rest.Bytes(), w)
	}
	return w.then(c, w.Wait.Resume(c))
}

// Late implements loop.Wait.
func (w *waiting) Late(c *loop.Conn) loop.Wait { return w.then(c, w.Wait.Late(c)) }

// then goes on with the next commands, unless this one still waits.
func (w *waiting) then(c *loop.Conn, next loop.Wait) loop.Wait {
	if w.Wait = next; next != nil {
		return w
	}
	return w.protocol.Client(c).commands(w.rest.Bytes(), w)
}

// Cancel implements loop.Wait.
func (w *waiting) Cancel() {
	if w.Wait != nil {
		w.Wait.Cancel()
	}
}

// Moot implements loop.Wait: unless one of the commands behind it publishes, or sends the application something.
func (w *waiting) Moot(c *loop.Conn) bool {
	if w.Wait != nil && !w.Wait.Moot(c) {
		return false
	}
	for p := w.rest.Bytes(); len(p) > 0; {
		cmd, n, err := Next(w.protocol.Client(c).format.Encoding, p)
		if err != nil {
			break // the connection ends there
		}
		if cmd.Publish != nil || cmd.Send != nil {
			return false
		}
		p = p[n:]
	}
	return true
}

// Again implements loop.Wait.
func (w *waiting) Again(c *loop.Conn) (m frame.Message, ok bool) {
	if w.Wait == nil {
		m.Op = w.protocol.Client(c).format.op()
	} else if m, ok = w.Wait.Again(c); !ok {
		return m, false
	} else if n := len(m.Payload); w.protocol.Client(c).format.Encoding == JSON && n > 0 && m.Payload[n-1] != '\n' {
		m.Payload = append(m.Payload, '\n')
	}
	m.Payload = append(m.Payload, w.rest.Bytes()...)
	return m, true
}

// Size implements loop.Wait.
func (w *waiting) Size() int {
	n := w.rest.Size()
	if w.Wait != nil {
		n += w.Wait.Size()
	}
	return n
}

// doing is a command that waits, beside a publication, which knows by itself what it is. It is kept as the client has sent
// it: decoded, it may be much larger. The server's API may end the subscription of a subscribe command meanwhile.
type doing struct {
	loop.Wait        // what it waits for
	piece     []byte // the command
	ended     bool   // by the API
}

// does returns next, which a command waits for, as a Wait that knows the command; nil for nothing. piece is the command as
// the client has sent it, and is copied.
func (c clientConn) does(next loop.Wait, piece []byte) loop.Wait {
	switch next.(type) {
	case nil, *loop.Publishing:
		return next
	}
	return &doing{Wait: next, piece: slices.Clone(piece)}
}

// command returns the command.
func (w *doing) command(c *loop.Conn) *protocol.Command {
	cmd, _, err := Next(clientOf(c).format.Encoding, w.piece)
	if err != nil {
		panic(err) // it was decoded before
	}
	return cmd
}

// Resume implements loop.Wait.
func (w *doing) Resume(c *loop.Conn) loop.Wait { return w.then(c, loop.Wait.Resume) }

// Late implements loop.Wait.
func (w *doing) Late(c *loop.Conn) loop.Wait { return w.then(c, loop.Wait.Late) }

// then goes on, unless the API has ended the subscription.
func (w *doing) then(c *loop.Conn, do func(loop.Wait, *loop.Conn) loop.Wait) loop.Wait {
	if w.ended {
		w.Cancel()
		return clientOf(c).fail(&protocol.Reply{Id: w.command(c).Id}, ErrorPermissionDenied)
	}
	if w.Wait = do(w.Wait, c); w.Wait == nil {
		return nil
	}
	return w
}

// Size implements loop.Wait.
func (w *doing) Size() int { return w.Wait.Size() + cap(w.piece) }

// Again implements loop.Wait.
func (w *doing) Again(c *loop.Conn) (frame.Message, bool) {
	if p, ok := w.Wait.(*loop.Publishing); ok {
		if _, ok = p.Again(c); !ok { // it may have been published
			return frame.Message{}, false
		}
	}
	return frame.Message{Op: clientOf(c).format.op(), Payload: slices.Clone(w.piece)}, !w.ended
}

// clientOf returns a connection that speaks the protocol.
func clientOf(c *loop.Conn) clientConn { return c.Variant().Protocol.(*Protocol).Client(c) }

// endPending ends a subscription that has not begun, "" for all, as the server's API asks for.
func (c clientConn) endPending(channel string) {
	next := c.Waiting()
	if w, ok := next.(*waiting); ok {
		next = w.Wait
	}
	if w, ok := next.(*doing); ok {
		if s := w.command(c.Conn).Subscribe; s != nil && (channel == "" || channel == s.Channel) {
			w.ended = true
		}
	}
	for name, d := range c.details {
		if d.pending && (channel == "" || channel == name) {
			delete(c.details, name)
		}
	}
}

// verdict is that on a token, for which a command waits.
type verdict struct {
	access.Verification
	c    *loop.Conn // nil: it does not wait any more
	size int
	then func(*access.Verification) loop.Wait
}

// verify verifies a token and continues with then, at once if that is cheap. size is about what
// the command holds meanwhile.
func (c clientConn) verify(token string, kind access.Kind, size int, then func(*access.Verification) loop.Wait) loop.Wait {
	x := &verdict{Verification: access.Verification{Token: token, Kind: kind}, c: c.Conn, size: size, then: then}
	l := c.Loop()
	x.Done = func() { l.Post(x) }
	v := c.protocol.Verifiers
	switch {
	case v.Cheap(token):
		v.Verify(&x.Verification, l.Time())
	case v.Submit(&x.Verification):
		return x
	}
	return then(&x.Verification)
}

// Deliver implements loop.Message: the verdict is there.
func (x *verdict) Deliver(*loop.Loop) {
	if x.c != nil {
		x.c.Resume()
	}
}

// Resume implements loop.Wait.
func (x *verdict) Resume(*loop.Conn) loop.Wait {
	x.c = nil
	x.Verdict()
	return x.then(&x.Verification)
}

// Late implements loop.Wait.
func (x *verdict) Late(*loop.Conn) loop.Wait {
	x.Cancel()
	return x.then(&access.Verification{Err: auth.ErrUnavailable})
}

// Cancel implements loop.Wait.
func (x *verdict) Cancel() {
	x.c = nil
	x.Abandon()
}

// Moot implements loop.Wait.
func (*verdict) Moot(*loop.Conn) bool { return true }

// Size implements loop.Wait.
func (x *verdict) Size() int { return x.size }

// Again implements loop.Wait: the command knows what it was for.
func (*verdict) Again(*loop.Conn) (frame.Message, bool) { return frame.Message{}, false }

// publication is the publish command with a reply's ID.
type publication struct {
	protocol *Protocol
	id       uint32
}

// refusal is an error of the protocol as one of Go.
type refusal struct{ fault *protocol.Error }

func (r refusal) Error() string { return r.fault.Message }

// MayPublish implements loop.Publisher: the permission may have gone meanwhile.
func (p *publication) MayPublish(c *loop.Conn, channel string) error {
	if p.protocol.Client(c).publishHook(channel) != nil {
		return nil // it has allowed it
	}
	if err := p.protocol.Client(c).may(namespace.Publish, channel); err != nil {
		return refusal{err}
	}
	return nil
}

// Published implements loop.Publisher.
func (p *publication) Published(c *loop.Conn, err error) { p.protocol.Client(c).published(p.id, err) }

// Again implements loop.Publisher.
func (p *publication) Again(c *loop.Conn, channel string, payload []byte, _ bool) (frame.Message, bool) {
	return p.protocol.Client(c).format.message(&protocol.Command{Id: p.id, Publish: &protocol.PublishRequest{Channel: channel, Data: payload}})
}

// publishErrors are the protocol's errors for publish faults.
var publishErrors = [engine.FaultCount]*protocol.Error{
	engine.BadChannel:     ErrorBadRequest,
	engine.UnknownChannel: ErrorUnknownChannel,
	engine.BadText:        ErrorBadRequest,
	engine.TooBig:         ErrorLimitExceeded,
	engine.Unfit:          ErrorLimitExceeded,
	engine.RateReached:    ErrorTooManyRequests,
	engine.PushedBack:     ErrorInternal,
	engine.Unavailable:    ErrorInternal,
	engine.Away:           ErrorInternal,
	engine.Unpublished:    ErrorInternal,
}

// published replies to a publish command.
func (c clientConn) published(id uint32, err error) {
	r := &protocol.Reply{Id: id}
	var refused refusal
	switch {
	case err == nil:
		r.Publish = &protocol.PublishResult{}
	case errors.As(err, &refused):
		r.Error = refused.fault
	default:
		r.Error = publishErrors[engine.FaultOf(err)]
	}
	c.answer(r)
}
