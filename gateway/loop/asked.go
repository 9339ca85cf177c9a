package loop

import (
	"maps"
	"slices"
	"time"

	"sluice/poller"
)

// What the server's API and operators ask of a loop: each is a message to it (EachLoop).

// Act lets the loop's connections of a user act, of which client names one if it is not "".
// Those of the clients in spared do not.
func (l *Loop) Act(user, client string, spared []string, a Action) {
	var found []*Conn // first, because what is done may end some
	for c := l.users[user]; c != nil; c = c.Identity().next {
		if id := c.Identity().ID.String(); (client == "" || id == client) && !slices.Contains(spared, id) {
			found = append(found, c)
		}
	}
	for _, c := range found {
		if c.Phase == phaseOpen {
			c.stepAct(a)
		}
	}
}

// stepAct does what the API asks of a connection. It is a method of the connection's, and
// not a function of the loop's, because a panic in it ends this connection alone.
func (c *Conn) stepAct(a Action) {
	defer c.contain()
	c.protocol().Act(c, a)
	c.Flush()
	c.Settle()
}

// End closes a connection for an operator. It reports whether the loop has it and it was open.
func (l *Loop) End(id uint64) bool {
	for _, c := range l.conns {
		if c.id == id {
			open := c.Phase == phaseOpen
			c.stepEnd()
			return open
		}
	}
	return false
}

// stepEnd closes the connection for an operator.
func (c *Conn) stepEnd() {
	defer c.contain()
	c.Close(ReasonOperator)
	c.Settle()
}

// Census is what only a loop knows of its clients.
type Census struct {
	Users         []string // those of its connections
	Subscriptions int
}

// Census counts the loop's clients.
func (l *Loop) Census() Census {
	c := Census{Users: slices.Collect(maps.Keys(l.users))}
	for _, g := range l.groups {
		c.Subscriptions += len(g.subs) - g.holes
	}
	return c
}

// Description is a connection as it is at one time.
type Description struct {
	ID       uint64 `json:"id,string"`
	Address  string `json:"address"` // of the client, as a proxy told it where one did
	Protocol string `json:"protocol"`
	Format   string `json:"format"`
	// Compression is what the client has negotiated: permessage-deflate or gzip, "" for nothing.
	Compression string   `json:"compression,omitempty"`
	User        string   `json:"user,omitempty"`   // as its token says
	Client      string   `json:"client,omitempty"` // the ID by which the API's methods know it
	TLS         bool     `json:"tls"`
	Channels    []string `json:"channels"`
	State       string   `json:"state"`         // open, blocked or closing
	Pending     int      `json:"pending_bytes"` // of its own: the rest of a frame, replies
	// Age is for how long bytes have waited without the socket taking one,
	// milliseconds, from seconds.
	Age int64 `json:"unsent_age_ms"`
	// Lag counts the publications of its channels that it was not sent yet.
	Lag  uint64 `json:"lag"`
	RTT  int64  `json:"rtt_us"` // as TCP knows it (TCP_INFO), 0 for none
	Loop int    `json:"loop"`

	Key uint64 `json:"-"` // by which it was chosen
}

// Describe describes the loop's connections with the highest keys.
func (l *Loop) Describe(key func(*Conn) uint64, limit int) (all []Description) {
	for _, a := range l.highest(limit, key, true) {
		d := a.c.describe()
		d.Key = a.key
		all = append(all, d)
	}
	return all
}

func (c *Conn) describe() Description {
	d := Description{
		ID: c.id, Address: AddressText(c.From()), Protocol: c.Variant().Name,
		TLS: c.secure() != nil, Channels: []string{}, State: "open", Pending: c.Pending(), Age: c.Stuck().Milliseconds(),
		Lag: c.Lag(), RTT: poller.RTT(c.FD()).Microseconds(), Loop: c.loop.index,
	}
	if who := c.Identity(); who != nil {
		d.User, d.Client = who.User, who.ID.String()
	}
	for i := range c.Refs() {
		d.Channels = append(d.Channels, c.Ref(i).Channel())
	}
	if c.catchingUp() {
		d.Channels = append(d.Channels, c.Out.catch.channel)
	}
	switch {
	case c.Phase != phaseOpen:
		d.State = "closing"
	case c.has(bitBlocked):
		d.State = "blocked"
	}
	switch {
	case c.gzips():
		d.Compression = "gzip"
	case c.has(bitCompressed):
		d.Compression = "permessage-deflate"
	}
	c.protocol().Describe(c, &d)
	return d
}

// Lag counts the publications that the connection was not sent yet.
func (c *Conn) Lag() (n uint64) {
	for i := range c.Refs() {
		r := c.Ref(i)
		n += r.group.Between(r.sub().cursor, r.group.Log().Head(), 0)
	}
	return n
}

// Stuck returns for how long bytes have waited without the socket taking one.
func (c *Conn) Stuck() time.Duration {
	if !c.has(bitBlocked) || c.Phase != phaseOpen {
		return 0
	}
	return time.Duration(c.loop.now-c.since) * time.Second
}
