package raw

import (
	"strconv"
	"unicode/utf8"

	"sluice/gateway/channel"
	"sluice/gateway/frame"
	"sluice/gateway/hook"
	"sluice/gateway/hook/client"
	"sluice/gateway/loop"
	"sluice/gateway/wire"

	"github.com/gobwas/ws"
)

// What hooks are asked about a client that is in its channel.

// publishHook returns the hook that decides about what clients publish in a channel, nil for none.
func (p *Protocol) publishHook(name string) hook.Hook[*hook.PublishRequest, hook.PublishResult] {
	if !p.Policy.Hooked() {
		return nil
	}
	if o := p.Policy.Options(name); o != nil {
		if which, asks := p.Policy.AsksToPublish(o); asks {
			return client.Pick(p.Policy.Hooks().Publish, which)
		}
	}
	return nil
}

// known returns what is kept of a client for hooks, also if there were none when it came.
func (p *Protocol) known(c *loop.Conn) *state {
	if s := stateOf(c); s != nil {
		return s
	}
	s := &state{Client: client.New(nil)}
	c.Know().State = s
	s.Taken(c, p.kindOf(c))
	return s
}

// askToPublish asks a hook about a message, which is its own, and publishes what the hook allows.
func (p *Protocol) askToPublish(c *loop.Conn, h hook.Hook[*hook.PublishRequest, hook.PublishResult], ch *channel.Channel, m frame.Message) loop.Wait {
	s, d := p.known(c), loop.Decided{Name: ch.Name(), Channel: ch, Payload: m.Payload, Binary: m.Op == ws.OpBinary, Patient: true}
	q := &hook.PublishRequest{Client: s.Who(), Channel: d.Name, Data: d.Payload}
	question := loop.Question{Size: len(m.Payload), Others: true, Again: &frame.Message{Op: m.Op, Payload: m.Payload}}
	return client.Ask(c, p.Logger, s.Client, h, q, question, func(r *hook.PublishResult, err error) loop.Wait {
		if err == nil {
			err = client.Unsupported(c, p.Logger, r)
		}
		if err != nil {
			s.rejectPublication(c, err)
			return nil
		}
		if r != nil {
			if r.Data != nil {
				d.Payload, d.Binary = r.Data, !utf8.Valid(r.Data)
			}
			d.Extra, d.Passing = channel.AppendTags(nil, r.Tags), r.SkipHistory
		}
		return asSent(p.publish(c, d), m)
	})
}

// sent is a publication that waits, and that a hook may have changed. It implements loop.Wait: another process asks the hook
// about the message again, as the client has sent it.
type sent struct {
	loop.Wait
	m frame.Message
}

// asSent returns what a message's publication waits for, nil for nothing.
func asSent(w loop.Wait, m frame.Message) loop.Wait {
	if w == nil {
		return nil
	}
	return &sent{w, m}
}

// Resume implements loop.Wait.
func (s *sent) Resume(c *loop.Conn) loop.Wait { return asSent(s.Wait.Resume(c), s.m) }

// Late implements loop.Wait.
func (s *sent) Late(c *loop.Conn) loop.Wait { return asSent(s.Wait.Late(c), s.m) }

// Size implements loop.Wait.
func (s *sent) Size() int { return s.Wait.Size() + len(s.m.Payload) }

// Again implements loop.Wait.
func (s *sent) Again(c *loop.Conn) (frame.Message, bool) {
	_, ok := s.Wait.Again(c) // else it may have been published
	return s.m, ok
}

// rejectPublication notifies a client of a publication that a hook does not allow: with an error, if its format can say so.
func (s *state) rejectPublication(c *loop.Conn, err error) {
	r := hook.Refuse(err, true)
	if r.Disconnect == nil && c.Format() == channel.Format(wire.Record{}) {
		c.Reply(ws.OpText, appendError(nil, r.Error))
		return
	}
	s.disconnect(c, ws.StatusCode(r.CloseCode), r.CloseText)
}

// appendError appends the record of a publication that a hook does not allow.
func appendError(dst []byte, e *hook.Error) []byte {
	dst = append(dst, `{"error":{"code":`...)
	dst = strconv.AppendUint(dst, uint64(e.Code), 10)
	dst = append(dst, `,"message":`...)
	dst = wire.AppendString(dst, e.Message)
	if e.Temporary {
		dst = append(dst, `,"temporary":true`...)
	}
	return append(dst, "}}"...)
}

// subRefresh returns the hook that is asked whether clients may stay in a channel, nil for none.
func (p *Protocol) subRefresh(name string) hook.Hook[*hook.SubRefreshRequest, hook.SubRefreshResult] {
	if o := p.Policy.Options(name); o != nil {
		if which, asks := p.Policy.AsksToSubRefresh(o); asks {
			return client.Pick(p.Policy.Hooks().SubRefresh, which)
		}
	}
	return nil
}

// expire does what the times of a client ask for that is in its channel. It reports whether the client is closed.
func (p *Protocol) expire(c *loop.Conn, s *state) (closed bool) {
	who, now := c.Identity(), c.Loop().Time().Unix()
	switch h := p.Policy.Hooks().Refresh; {
	case h == nil:
		if c.Expired(who.ExpireAt) {
			return true
		}
		c.WakeAtTime(who.ExpireAt)
	case who.ExpireAt > 0 && now >= who.ExpireAt:
		s.Refresh(c, p.Logger, h, func(at int64, info []byte, expired bool) { stays(c, &who.ExpireAt, at, info, expired) })
	default:
		c.WakeAtTime(who.ExpireAt)
	}
	if s.until == 0 || s.cancel != nil {
		return false
	}
	name := s.channel(c)
	switch h := p.subRefresh(name); {
	case now < s.until:
		c.WakeAtTime(s.until)
	case name == "": // it is on its way in
		c.WakeAtTime(now + 1)
	case h == nil:
		return c.Expired(s.until)
	default:
		s.cancel = s.SubRefresh(c, p.Logger, h, name, func(at int64, info []byte, expired bool) {
			s.cancel = nil
			stays(c, &s.until, at, info, expired)
		})
	}
	return false
}

// channel returns the channel that a client is in, or catches up in; "" for none.
func (s *state) channel(c *loop.Conn) string {
	if c.Refs() > 0 {
		return c.Ref(0).Channel()
	}
	name, _ := c.CatchesUp()
	return name
}

// stays lets a client stay until at, or closes it. until is what says so.
func stays(c *loop.Conn, until *int64, at int64, info []byte, expired bool) {
	if expired {
		c.Close(loop.ReasonExpired)
		return
	}
	if *until = at; info != nil {
		c.Identity().Info = info
		stateOf(c).shows(info)
	}
	c.WakeAtTime(at)
}

// shows notes for hooks what others see of a client, nil if that stays.
func (s *state) shows(info []byte) {
	if info != nil {
		s.Is(s.Who().User, info, s.Who().Meta)
	}
}

// Ended implements loop.Ender.
func (p *Protocol) Ended(c *loop.Conn) {
	s := stateOf(c)
	if s == nil {
		return
	}
	if s.cancel != nil {
		s.cancel()
	}
	code, text := c.EndText()
	s.Client.Ended(c, p.Logger, p.Policy.Hooks().Disconnect, code, text)
}
