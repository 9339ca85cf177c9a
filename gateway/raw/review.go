package raw

import "sluice/gateway/loop"

// flagByRules is the bit of a subscription that nothing but the namespace's options allows.
const flagByRules uint8 = 1

// review ends the client if it may not have its channel any more, after the rights have changed. What its token or a hook
// has granted stays, as long as the channel's namespace is there. A client that may not publish any more only listens.
func (p *Protocol) review(c *loop.Conn, a *loop.ReviewAction) {
	who := c.Identity()
	user := ""
	if who != nil {
		if user = who.User; a.Revoked != nil && a.Revoked(who.Key) {
			a.Disconnected++
			c.Close(loop.RevokedReason(who.Key, loop.ReasonForbidden))
			return
		}
	}
	if c.Refs() == 0 { // an echo, or one that is on its way to its channel
		return
	}
	r := c.Ref(0)
	rights, err := p.Policy.Rights(r.Channel(), user, *r.Flags()&flagByRules == 0)
	switch {
	case err != nil:
		a.Disconnected++
		c.Close(loop.ReasonForbidden)
	case !rights.Publish:
		c.ListenFromNow()
	}
}
