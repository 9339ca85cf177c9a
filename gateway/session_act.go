package gateway

import (
	"sluice/gateway/centrifugo"

	"github.com/centrifugal/protocol"
)

// act implements connProtocol.
func (centrifugoProtocol) act(c *conn, a action) {
	switch a := a.(type) {
	case *subscribeAction:
		c.subscribed(a)
	case *unsubscribeAction:
		names := []string{a.channel}
		if a.channel == "" {
			names = names[:0]
			for i := range c.refs() {
				names = append(names, c.ref(i).group.key.channel)
			}
		}
		for _, name := range names {
			c.unsubscribe(name, centrifugo.UnsubscribeServer)
		}
	case *disconnectAction:
		ses := c.session()
		if ses.disconnect = nil; a.given {
			ses.disconnect = &protocol.Disconnect{Code: a.code, Reason: a.text}
		}
		c.close(reasonDisconnected)
	case *refreshAction:
		if !c.refreshed(a) {
			return
		}
		if a.info != nil {
			c.showPresence("")
		}
		p := &protocol.Refresh{}
		p.Expires, p.Ttl = lifetime(a.expireAt)
		c.tell(&protocol.Push{Refresh: p})
		c.wakeSession()
	}
}

// subscribed subscribes the client, and tells it so.
func (c *conn) subscribed(a *subscribeAction) {
	l, name := c.loop, a.channel
	if c.find(name) != nil || c.refs() >= sessionChannelsMax {
		return
	}
	w := wish{recovers: true, positions: true, recover: a.recover, since: a.since, server: true, detail: detail{info: a.info, expireAt: a.expireAt}}
	settled, err := c.settleSubscription(name, l.server.policy.Options(name), w, c.room())
	if err != nil {
		l.log.Warn("a subscription requested through the API was refused", "conn", c.id, "error", err.Message)
		return
	}
	result := settled.result
	c.tell(&protocol.Push{Channel: settled.name, Subscribe: &protocol.Subscribe{Recoverable: result.Recoverable, Epoch: result.Epoch,
		Offset: result.Offset, Positioned: result.Positioned, Data: centrifugo.Raw(c.session().format.Encoding, a.data)}})
	for _, p := range result.Publications {
		c.tell(&protocol.Push{Channel: settled.name, Pub: p})
	}
	c.begin(&settled)
}
