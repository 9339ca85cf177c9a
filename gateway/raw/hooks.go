package raw

import (
	"net/http"
	"strconv"

	"sluice/gateway/access"
	"sluice/gateway/channel"
	"sluice/gateway/hook"
	"sluice/gateway/loop"
	"sluice/gateway/route"
	"sluice/gateway/wire"

	"github.com/gobwas/ws"
)

// Hooks decide about clients on their loops, with the response to the request not sent yet: a client that waits for an
// answer is a connection that is not read, and nothing else. The order is that of Centrifugo: a client without a token is
// the connect hook's, and one whose token is not for the channel the subscribe hook's, where the channel's namespace has one.

// deciding is what hooks have to decide about a client before it is in its channel.
type deciding struct {
	connect bool // the connect hook is asked first
	granted bool // a token is for the channel
	resumes bool // as in rawClient
	headers hook.Header
}

// state is what the protocol keeps of a connection for which hooks are asked: its Identity.State.
type state struct {
	hook.Identity
	// code and text are of a disconnect by a hook.
	code ws.StatusCode
	text string
}

// stateOf returns it, nil for none.
func stateOf(c *loop.Conn) *state {
	if who := c.Identity(); who != nil {
		s, _ := who.State.(*state)
		return s
	}
	return nil
}

// decides reports whether hooks decide about the client, whose user is known unless the connect hook is asked for it.
func (r *rawClient) decides(h *loop.Hello, user string, granted bool) bool {
	p := r.protocol
	if p.Hooks == nil {
		return false
	}
	connect := p.Hooks.Connect != nil && h.Identity == nil && !p.Policy.Insecure()
	subscribe := false
	if o := p.Policy.Options(r.channel); o != nil {
		_, subscribe = p.Policy.AsksToSubscribe(o, r.channel)
		_, publish := p.Policy.AsksToPublish(o)
		subscribe = subscribe && !granted
		if publish && h.Identity == nil {
			h.Identity = &loop.Identity{ID: loop.NewClientID()} // for what it publishes
		}
	}
	if !connect && !subscribe {
		return false
	}
	if h.Identity == nil {
		h.Identity = &loop.Identity{ID: loop.NewClientID()}
	}
	r.deciding = &deciding{connect: connect, granted: granted, resumes: r.resumes, headers: r.headers}
	return true
}

// know makes what hooks are sent of a client.
func (p *Protocol) know(c *loop.Conn, a *loop.Arrival, headers hook.Header) *state {
	who := c.Identity()
	s := &state{Identity: hook.Identity{ID: who.ID.String(), Transport: "websocket", Protocol: "json", Encoding: "binary",
		User: who.User, Info: who.Info, Headers: headers, Peer: a.Client}}
	if c.Variant() == p.stream {
		s.Transport = "sse"
	}
	if a.Secure != nil {
		t := a.Secure.ConnectionState()
		s.TLS = &hook.TLS{Version: t.Version, CipherSuite: t.CipherSuite, ServerName: t.ServerName, Certificates: t.PeerCertificates}
	}
	who.State = s
	return s
}

// decisionBytes is about what a client takes that waits for a decision, beside the headers.
const decisionBytes = 512

// decide asks the hooks about a client, and goes on with start when they allow it.
func (p *Protocol) decide(c *loop.Conn, start rawStart) loop.Wait {
	d, s := start.deciding, stateOf(c)
	if !d.connect {
		return p.askToSubscribe(c, s, start)
	}
	q := &hook.ConnectRequest{Client: &s.Identity, Channels: []string{start.channel}}
	return ask(c, p.Hooks.Connect, q, func(r *hook.ConnectResult, err error) loop.Wait {
		if err != nil {
			return p.refuse(c, &start, err)
		}
		if r != nil {
			who := c.Identity()
			s.User, s.Info, s.Meta = r.User, r.Info, r.Meta
			who.User, who.Info, who.ExpireAt = r.User, r.Info, r.ExpireAt
			d.granted = grants(r, start.channel, who)
		}
		return p.askToSubscribe(c, s, start)
	})
}

// grants reports whether a connect hook has subscribed the client to the channel, perhaps with an expiry.
func grants(r *hook.ConnectResult, channel string, who *loop.Identity) bool {
	for _, name := range r.Channels {
		if name == channel {
			return true
		}
	}
	o, ok := r.Subs[channel]
	who.ExpireAt = earlier(who.ExpireAt, o.ExpireAt)
	if o.Info != nil {
		who.Info = o.Info
	}
	return ok
}

// earlier returns the earlier one of two times, of which 0 is never.
func earlier(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// ask asks a hook about a client.
func ask[Q hook.Request, A any](c *loop.Conn, h hook.Hook[Q, A], q Q, then func(*A, error) loop.Wait) loop.Wait {
	size := decisionBytes
	for _, f := range q.From().Headers {
		size += len(f.Name) + len(f.Value)
	}
	return loop.Ask(c, size, func(answer func(*A, error)) (cancel func()) { return h.Ask(q, answer) }, then)
}

// askToSubscribe asks the subscribe hook, where the channel has one.
func (p *Protocol) askToSubscribe(c *loop.Conn, s *state, start rawStart) loop.Wait {
	o := p.Policy.Options(start.channel)
	if o == nil || start.deciding.granted {
		return p.decided(c, &start)
	}
	name, asks := p.Policy.AsksToSubscribe(o, start.channel)
	if !asks {
		return p.decided(c, &start)
	}
	q := &hook.SubscribeRequest{Client: &s.Identity, Channel: start.channel}
	return ask(c, hook.Pick(p.Hooks.Subscribe, name), q, func(r *hook.SubscribeResult, err error) loop.Wait {
		if err != nil {
			return p.refuse(c, &start, err)
		}
		if who := c.Identity(); r != nil {
			who.ExpireAt = earlier(who.ExpireAt, r.ExpireAt)
			if r.Info != nil {
				who.Info = r.Info
			}
		}
		start.deciding.granted = true
		return p.decided(c, &start)
	})
}

// decided begins the client, if its rights allow that now.
func (p *Protocol) decided(c *loop.Conn, start *rawStart) loop.Wait {
	d := start.deciding
	start.deciding = nil
	listens, reject := start.settle(p.Policy, c.Identity().User, d.granted, d.resumes)
	if reject != nil {
		return p.reject(c, start, reject, loop.ReasonDenied)
	}
	if listens {
		c.ListenFromNow()
	}
	identifyRaw(c)
	return p.begin(c, *start)
}

// settle applies a client's rights in its channel. It reports whether the client may only listen.
func (s *rawStart) settle(policy *access.Policy, user string, granted, resumes bool) (listens bool, _ *route.Reject) {
	rights, err := policy.Rights(s.channel, user, granted)
	switch err {
	case access.ErrUnknownChannel:
		return false, rejectUnknownChannel
	case access.ErrDenied:
		return false, rejectDenied
	}
	if s.ask.Kind != channel.AskNow && !rights.Recover {
		if !resumes {
			return false, rejectLookBack
		}
		s.ask, s.blind = channel.Ask{Kind: channel.AskNow}, true
	}
	return !rights.Publish, nil
}

// Refusals by hooks. Their texts are the application's, but for what there is no answer to.
var (
	rejectHook    = route.NewReject(http.StatusForbidden, "hook_refused", "The application refuses this connection.")
	rejectHook401 = route.NewReject(http.StatusUnauthorized, "hook_unauthorized", "The application wants to know who you are.").WithHeader(challenge)
	rejectNoHook  = route.NewReject(http.StatusServiceUnavailable, "hook_failed", "The application cannot be asked at the moment.").WithRetry(2)
)

// refuse ends a client that a hook does not allow.
func (p *Protocol) refuse(c *loop.Conn, start *rawStart, err error) loop.Wait {
	r := hook.Refuse(err, c.Variant() != p.stream)
	if r.Disconnect != nil {
		p.disconnect(c, ws.StatusCode(r.CloseCode), r.CloseText)
		return nil
	}
	reject, why := *rejectHook, loop.ReasonDenied
	switch {
	case r.Retry:
		reject, why = *rejectNoHook, loop.ReasonUnavailable
	case r.Status == http.StatusUnauthorized:
		reject = *rejectHook401
	}
	if !r.Retry && r.Text != "" {
		reject.Text = r.Text
	}
	return p.reject(c, start, &reject, why)
}

// reject refuses a client by a response or, where that is configured, by a Close frame.
func (p *Protocol) reject(c *loop.Conn, start *rawStart, r *route.Reject, why loop.Reason) loop.Wait {
	if p.CloseRefused {
		code, _ := why.CloseText()
		p.disconnect(c, code, r.Text)
		return nil
	}
	refusal := *r
	refusal.Header += start.cors
	c.Answer(refusal.Append(nil))
	return nil
}

// disconnect closes a connection with a code and a text of its own.
func (p *Protocol) disconnect(c *loop.Conn, code ws.StatusCode, text string) {
	s := stateOf(c)
	s.code, s.text = code, text
	c.Close(loop.ReasonHook)
}

// publish asks the publish hook of a channel about a message, and publishes what that allows.
func (p *Protocol) publish(c *loop.Conn, h hook.Hook[*hook.PublishRequest, hook.PublishResult], name string, payload []byte, binary bool) loop.Wait {
	q := &hook.PublishRequest{Client: &stateOf(c).Identity, Channel: name, Data: payload}
	size := len(payload)
	return loop.Ask(c, size, func(answer func(*hook.PublishResult, error)) (cancel func()) { return h.Ask(q, answer) },
		func(r *hook.PublishResult, err error) loop.Wait {
			if err != nil {
				p.rejectPublication(c, err)
				return nil
			}
			if r != nil && r.Data != nil {
				payload, binary = r.Data, false
			}
			return p.publishNow(c, payload, binary)
		})
}

// rejectPublication notifies a client of a publication that a hook does not allow: with an error, if its format can say so.
func (p *Protocol) rejectPublication(c *loop.Conn, err error) {
	r := hook.Refuse(err, true)
	switch {
	case r.Disconnect != nil:
		p.disconnect(c, ws.StatusCode(r.CloseCode), r.CloseText)
	case c.Format() == channel.Format(wire.Record{}):
		c.Reply(ws.OpText, appendError(nil, r.Error))
	default:
		p.disconnect(c, ws.StatusPolicyViolation, r.Error.Message)
	}
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
