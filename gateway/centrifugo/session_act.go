package centrifugo

import (
	"sluice/gateway/loop"

	"github.com/centrifugal/protocol"
)

// Act implements loop.Protocol.
func (p *Protocol) Act(conn *loop.Conn, a loop.Action) {
	c := p.Client(conn)
	switch a := a.(type) {
	case *loop.SubscribeAction:
		c.subscribed(a)
	case *loop.UnsubscribeAction:
		c.endPending(a.Channel)
		names := []string{a.Channel}
		if a.Channel == "" {
			names = names[:0]
			for i := range c.Refs() {
				names = append(names, c.Ref(i).Channel())
			}
		}
		for _, name := range names {
			c.unsubscribe(name, UnsubscribeServer)
		}
	case *loop.DisconnectAction:
		if c.disconnect = nil; a.Given {
			c.disconnect = &protocol.Disconnect{Code: a.Code, Reason: a.Text}
		}
		c.Close(loop.ReasonDisconnected)
	case *loop.ReviewAction:
		c.review(a)
	case *loop.RefreshAction:
		if !c.Refreshed(a) {
			return
		}
		if a.Info != nil {
			c.setInfo(a.Info)
		}
		p := &protocol.Refresh{}
		p.Expires, p.Ttl = c.lifetime(a.ExpireAt)
		c.tell(&protocol.Push{Refresh: p})
		c.wakeSession()
	}
}

// subscribed subscribes the client, and notifies it.
func (c clientConn) subscribed(a *loop.SubscribeAction) {
	o := c.protocol.Policy.Options(a.Channel)
	w := wish{recovers: true, positions: true, recover: a.Recover, since: a.Since, server: true, detail: detail{info: a.Info, expireAt: a.ExpireAt}}
	waits, over := false, false
	c.PrepareApart(func(unready error) {
		over = true
		pending := c.detail(a.Channel).pending
		if pending {
			delete(c.details, a.Channel)
		}
		if waits && !pending || c.mayJoin(a.Channel) != nil { // it was ended meanwhile, or is there
			return
		}
		var settled subscription
		err := unreadyError(unready)
		if unready == nil {
			settled, err = c.settleSubscription(a.Channel, o, w, c.Room())
		}
		if err != nil {
			c.protocol.Logger.Warn("a subscription requested through the API was refused", c.LogAttr(), "error", err.Message)
			return
		}
		result := settled.result
		c.tell(&protocol.Push{Channel: settled.name, Subscribe: &protocol.Subscribe{Recoverable: result.Recoverable, Epoch: result.Epoch,
			Offset: result.Offset, Positioned: result.Positioned, Data: Raw(c.format.Encoding, a.Data)}})
		for _, p := range result.Publications {
			c.tell(&protocol.Push{Channel: settled.name, Pub: p})
		}
		c.begin(&settled)
	}, a.Pending, loop.Wanted{Channel: a.Channel, Ask: w.ask(o, c.User)})
	if waits = !over; waits && c.Find(a.Channel) == nil {
		c.setDetail(a.Channel, detail{pending: true})
	}
}
