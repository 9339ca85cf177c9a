package raw

import (
	"net/http"
	"slices"
	"unique"

	"sluice/gateway/access"
	"sluice/gateway/channel"
	"sluice/gateway/hook"
	"sluice/gateway/hook/client"
	"sluice/gateway/loop"
	"sluice/gateway/route"

	"github.com/gobwas/ws"
)

// Hooks decide about clients on their loops, with the response to the request not sent yet: a client that waits for an
// answer is a connection that is not read, and nothing else. The order is that of Centrifugo: a client without a token is
// the connect hook's, and one whose token is not for the channel the subscribe hook's, where the channel's namespace has one.

// opening is how a client begins about which hooks are asked, then or later. It is kept until the client is in its channel.
type opening struct {
	rawStart
	connect bool   // the connect hook is asked first
	settled bool   // its rights are known: nothing is asked now
	granted bool   // a token or the connect hook is for the channel
	resumes bool   // as in rawClient
	cors    fields // of the header that a refusal has for a page
}

// fields are header fields, which many connections have in common.
type fields struct{ text unique.Handle[string] }

func fieldsOf(text string) (f fields) {
	if text != "" {
		f.text = unique.Make(text)
	}
	return f
}

// String returns the text.
func (f fields) String() string {
	if f == (fields{}) {
		return ""
	}
	return f.text.Value()
}

// state is what the protocol keeps of a client about which hooks are asked: its Identity.State.
type state struct {
	*client.Client
	opening *opening // nil once the client is in its channel
	until   int64    // when its right to its channel ends, unless a hook says that it may stay; Unix seconds, 0 for never
	cancel  func()   // takes that back; nil for nothing

	// Of a disconnect by a hook.
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

// prepare prepares the client for hooks, if any is to be asked about it, and reports whether one decides who it is or whether it
// may have its channel.
func (r *rawClient) prepare(h *loop.Hello, granted bool) (decides bool) {
	p := r.protocol
	if !p.Policy.Hooked() {
		return false
	}
	o := &opening{rawStart: r.rawStart, connect: p.Policy.Hooks().Connect != nil && h.Identity == nil, granted: granted, resumes: r.resumes}
	subscribes, publishes := false, false
	if options := p.Policy.Options(r.channel); options != nil {
		_, subscribes = p.Policy.AsksToSubscribe(options, r.channel)
		_, publishes = p.Policy.AsksToPublish(options)
	}
	decides = o.connect || subscribes && !granted
	o.settled = !decides
	refreshes := p.Policy.Hooks().Refresh != nil && h.Identity != nil || r.until > 0 && p.subRefresh(r.channel) != nil
	if decides || publishes || refreshes {
		if h.Start = o; h.Identity == nil {
			h.Identity = &loop.Identity{ID: loop.NewClientID()}
		}
		s := &state{Client: client.New(r.headers), opening: o, until: r.until}
		if r.meta != nil {
			s.Is(h.Identity.User, h.Identity.Info, r.meta)
		}
		if h.Identity.State = s; s.until > 0 {
			h.Identity.ExpireAt = 0 // the token is about the subscription, and not about the connection
		}
	}
	return decides
}

// kindOf returns how a client is connected, for hooks.
func (p *Protocol) kindOf(c *loop.Conn) client.Kind {
	if c.Variant() == p.stream {
		return client.Kind{Transport: "uni_sse", Protocol: "json", Encoding: "binary"}
	}
	return client.Kind{Transport: "websocket", Protocol: "json", Encoding: "binary"}
}

// Transport implements loop.Teller.
func (p *Protocol) Transport(c *loop.Conn) string { return p.kindOf(c).Transport }

// EndText implements loop.Teller.
func (*Protocol) EndText(c *loop.Conn) (ws.StatusCode, string) { return c.EndText() }

// know completes what is kept of a client for hooks, and has them decide about it.
func (p *Protocol) know(c *loop.Conn, a *loop.Arrival, o *opening) loop.Wait {
	s := stateOf(c)
	s.Arrived(c, a, p.kindOf(c))
	o.cors = fieldsOf(a.RefusalHeader)
	return p.open(c, s)
}

// Opening implements loop.Opener.
func (*Protocol) Opening(c *loop.Conn) bool {
	s := stateOf(c)
	return s != nil && s.opening != nil
}

// OpenAgain implements loop.Opener: hooks are asked again.
func (p *Protocol) OpenAgain(c *loop.Conn) loop.Wait { return p.open(c, stateOf(c)) }

// open asks the hooks about a client, and lets it begin when they allow it.
func (p *Protocol) open(c *loop.Conn, s *state) loop.Wait {
	o, h := s.opening, p.Policy.Hooks().Connect
	switch {
	case o.settled:
		identifyRaw(c)
		c.WakeAtTime(s.until)
		return p.begin(c, &o.rawStart)
	case !o.connect || h == nil: // it may have been there in another process, or before a reload
		return p.askToSubscribe(c, s, o.granted)
	}
	who, channel := s.Known(), o.channel
	q := func() *hook.ConnectRequest {
		return &hook.ConnectRequest{Client: who.Identity(), Channels: []string{channel}}
	}
	return client.AskLater(c, p.Logger, s.Client, h, q, loop.Question{}, func(r *hook.ConnectResult, err error) loop.Wait {
		if r, err = p.Policy.Hooks().Connected(r, err, c.Loop().Time().Unix()); err != nil {
			return p.refuse(c, s, err)
		}
		s.Accepted()
		who := c.Identity()
		who.User, who.Info, who.ExpireAt = r.User, r.Info, r.ExpireAt
		sub, named := r.Subs[s.opening.channel]
		if named {
			s.subscribed(c, sub.ExpireAt, sub.Info)
		}
		s.Is(r.User, who.Info, r.Meta)
		return p.askToSubscribe(c, s, named || slices.Contains(r.Channels, s.opening.channel))
	})
}

// askToSubscribe asks the subscribe hook, where the channel has one.
func (p *Protocol) askToSubscribe(c *loop.Conn, s *state, granted bool) loop.Wait {
	name, asks := "", false
	if options := p.Policy.Options(s.opening.channel); options != nil && !granted {
		name, asks = p.Policy.AsksToSubscribe(options, s.opening.channel)
	}
	if !asks {
		return p.decided(c, s, granted)
	}
	who, channel := s.Known(), s.opening.channel
	q := func() *hook.SubscribeRequest {
		return &hook.SubscribeRequest{Client: who.Identity(), Channel: channel}
	}
	return client.AskLater(c, p.Logger, s.Client, client.Pick(p.Policy.Hooks().Subscribe, name), q, loop.Question{}, func(r *hook.SubscribeResult, err error) loop.Wait {
		if err = hook.Subscribed(r, err, c.Loop().Time().Unix()); err != nil {
			return p.refuse(c, s, err)
		}
		if r != nil {
			s.subscribed(c, r.ExpireAt, r.Info)
		}
		return p.decided(c, s, true)
	})
}

// subscribed notes what a hook says of the client's subscription: until when it lasts, and an info, nil for none.
func (s *state) subscribed(c *loop.Conn, expireAt int64, info []byte) {
	if s.until = expireAt; info != nil {
		c.Identity().Info = info
	}
}

// decided begins the client, if its rights allow that now.
func (p *Protocol) decided(c *loop.Conn, s *state, granted bool) loop.Wait {
	start := s.opening.rawStart
	listens, reject := start.settle(p.Policy, c.Identity().User, granted, s.opening.resumes)
	if reject != nil {
		return p.reject(c, s, reject, ws.StatusPolicyViolation)
	}
	if listens {
		c.ListenFromNow()
	}
	identifyRaw(c)
	c.WakeAtTime(s.until)
	return p.begin(c, &start)
}

// settle applies a client's rights in its channel. It reports whether the client may only listen.
func (s *rawStart) settle(policy *access.Policy, user string, granted, resumes bool) (listens bool, _ *route.Reject) {
	rights, err := policy.Rights(s.channel, user, granted)
	s.byRules = !granted
	switch err {
	case access.ErrUnknownChannel:
		return false, rejectUnknownChannel
	case access.ErrName:
		return false, rejectName
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
func (p *Protocol) refuse(c *loop.Conn, s *state, err error) loop.Wait {
	r := hook.Refuse(err, c.Variant() != p.stream)
	if r.Disconnect != nil {
		s.disconnect(c, ws.StatusCode(r.CloseCode), r.CloseText)
		return nil
	}
	reject := *rejectHook
	switch {
	case r.Retry:
		reject = *rejectNoHook
	case r.Status == http.StatusUnauthorized:
		reject = *rejectHook401
	}
	if !r.Retry && r.Text != "" {
		reject.Text = r.Text
	}
	return p.reject(c, s, &reject, ws.StatusCode(r.CloseCode))
}

// reject refuses a client by a response or, where that is configured, by a Close frame.
func (p *Protocol) reject(c *loop.Conn, s *state, r *route.Reject, code ws.StatusCode) loop.Wait {
	if p.CloseRefused && c.Variant() != p.stream {
		s.disconnect(c, code, r.Text)
		return nil
	}
	refusal := *r
	refusal.Header += s.opening.cors.String()
	c.Answer(refusal.Append(nil))
	return nil
}

// disconnect closes a connection with a code and a text of its own.
func (s *state) disconnect(c *loop.Conn, code ws.StatusCode, text string) {
	s.code, s.text = code, text
	c.Close(loop.ReasonHook)
}
