package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"sluice/gateway/channel"
	"sluice/poller"
)

// The inspector shows an operator the connections that stand out, and ends one. Each
// loop chooses among its own and describes only those that can be in the answer.

// inspectMost bounds how many connections one answer holds.
const inspectMost = 1000

// inspected is a connection as the inspector shows it.
type inspected struct {
	ID       string   `json:"id"`
	Address  string   `json:"address"` // of the client, as a proxy told it where one did
	Protocol string   `json:"protocol"`
	Format   string   `json:"format"`
	User     string   `json:"user,omitempty"`   // as its token says
	Client   string   `json:"client,omitempty"` // the ID by which the API's methods know it
	TLS      bool     `json:"tls"`
	Channels []string `json:"channels"`
	State    string   `json:"state"`         // open, blocked or closing
	Pending  int      `json:"pending_bytes"` // of its own: the rest of a frame, replies
	// Age is for how long bytes have waited without the socket taking one,
	// milliseconds, from seconds.
	Age int64 `json:"unsent_age_ms"`
	// Lag counts the publications of its channels that it was not sent yet.
	Lag  uint64 `json:"lag"`
	RTT  int64  `json:"rtt_us"` // as TCP knows it (TCP_INFO), 0 for none
	Loop int    `json:"loop"`

	id  uint64
	key uint64
}

// inspect describes the loop's connections with the highest keys.
func (l *loop) inspect(key func(*conn) uint64, limit int) (rows []inspected) {
	for _, a := range l.highest(limit, key, true) {
		row := a.c.inspect()
		row.key = a.key
		rows = append(rows, row)
	}
	return rows
}

// inspectKeys are what an answer can be sorted by.
var inspectKeys = map[string]func(*conn) uint64{
	"pending": func(c *conn) uint64 { return uint64(c.pending()) },
	"lag":     (*conn).lag,
	"age":     func(c *conn) uint64 { return uint64(c.stuck()) },
	"id":      func(c *conn) uint64 { return c.id },
}

// lag counts the publications that the connection was not sent yet.
func (c *conn) lag() (n uint64) {
	for i := range c.refs() {
		r := c.ref(i)
		g := r.group
		n += g.Find(g.Log().Head()) - g.Find(g.subs[r.index].pos)
	}
	return n
}

// stuck tells for how long bytes have waited without the socket taking one.
func (c *conn) stuck() time.Duration {
	if !c.has(bitBlocked) || c.phase != phaseOpen {
		return 0
	}
	return time.Duration(c.loop.now-c.since) * time.Second
}

// from returns the client's address.
func (c *conn) from() netip.AddrPort {
	if c.ext != nil && c.ext.client.IsValid() {
		return c.ext.client
	}
	return poller.PeerAddr(c.FD())
}

func (c *conn) inspect() inspected {
	row := inspected{
		ID: strconv.FormatUint(c.id, 10), Address: addressText(c.from()), Protocol: c.loop.variants[c.variant].name, Format: "raw",
		TLS: c.secure() != nil, Channels: []string{}, State: "open", Pending: c.pending(), Age: c.stuck().Milliseconds(),
		Lag: c.lag(), RTT: poller.RTT(c.FD()).Microseconds(), Loop: c.loop.index, id: c.id,
	}
	if who := c.identity(); who != nil {
		row.User, row.Client = who.user, who.id.String()
	}
	describe := func(name string, f channel.Format) {
		row.Channels = append(row.Channels, name)
		if f, ok := f.(fmt.Stringer); ok {
			row.Format = f.String()
		}
	}
	for i := range c.refs() {
		key := c.ref(i).group.key
		describe(key.channel, key.format)
	}
	if c.catchingUp() {
		describe(c.out.catch.channel, c.out.catch.format)
	}
	switch {
	case c.phase != phaseOpen:
		row.State = "closing"
	case c.has(bitBlocked):
		row.State = "blocked"
	}
	return row
}

// addressText writes an address, without the port where it is not known.
func addressText(a netip.AddrPort) string {
	switch {
	case !a.IsValid():
		return "" // of a Unix socket, or of a peer that is gone
	case a.Port() == 0:
		return a.Addr().String()
	}
	return a.String()
}

// connectionList is an answer of the inspector.
type connectionList struct {
	Total       int64       `json:"total"`
	Sort        string      `json:"sort"`
	Connections []inspected `json:"connections"`
}

// What the inspector refuses.
var (
	errBadSort  = errors.New("invalid sort: use pending, lag, age or id")
	errBadLimit = fmt.Errorf("invalid limit: use a number from 1 to %d", inspectMost)
)

// worst returns the connections that stand out most, or an error of eachLoop.
func (s *Server) worst(ctx context.Context, sort string, limit int) (connectionList, error) {
	key, ok := inspectKeys[sort]
	switch {
	case !ok:
		return connectionList{}, errBadSort
	case limit < 1 || limit > inspectMost:
		return connectionList{}, errBadLimit
	}
	rows := []inspected{}
	for more, err := range eachLoop(ctx, s.loop, s.stopped, func(l *loop) []inspected { return l.inspect(key, limit) }) {
		if err != nil {
			return connectionList{}, err
		}
		rows = append(rows, more...)
	}
	slices.SortFunc(rows, func(a, b inspected) int { return cmp.Or(cmp.Compare(b.key, a.key), cmp.Compare(a.id, b.id)) })
	return connectionList{s.connections.Load(), sort, rows[:min(len(rows), limit)]}, nil
}

// end closes a connection for an operator. It reports whether the loop has it and it was open.
func (l *loop) end(id uint64) bool {
	for _, c := range l.conns {
		if c.id == id {
			open := c.phase == phaseOpen
			c.stepEnd()
			return open
		}
	}
	return false
}

// stepEnd closes the connection for an operator.
func (c *conn) stepEnd() {
	defer c.contain()
	c.close(reasonOperator)
	c.settle()
}

// closeConnection closes a connection for an operator. It reports whether there was an open one,
// or returns an error of eachLoop.
func (s *Server) closeConnection(ctx context.Context, id uint64) (closed bool, _ error) {
	for closed, err := range eachLoop(ctx, s.loop, s.stopped, func(l *loop) bool { return l.end(id) }) {
		if err != nil || closed {
			return closed, err
		}
	}
	return false, nil
}
