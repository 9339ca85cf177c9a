package centrifugo

import (
	"sluice/gateway/loop"
)

// review ends what the client may not do any more, after the rights have changed. What its tokens, hooks or the server's API
// have granted stays, as long as the channel's namespace is there.
func (c clientConn) review(a *loop.ReviewAction) {
	policy := c.protocol.Policy
	if a.Revoked != nil && a.Revoked(c.Key) {
		a.Disconnected++
		c.Close(loop.RevokedReason(c.Key, loop.ReasonInvalidToken))
		return
	}
	var ended []string // first, because an index changes with the end of another one
	for i := range c.Refs() {
		r := c.Ref(i)
		name := r.Channel()
		switch o := policy.Options(name); {
		case a.Revoked != nil && a.Revoked(c.detail(name).key), o == nil, *r.Flags()&refByRules != 0 && !(o.Fits(name) && policy.MaySubscribe(o, name, c.User)):
			ended = append(ended, name)
		}
	}
	for _, name := range ended {
		a.Unsubscribed++
		c.unsubscribe(name, UnsubscribeInsufficientState)
	}
}
