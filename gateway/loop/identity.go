package loop

import (
	"crypto/rand"
	"encoding/hex"
)

// Identity is who a connection is: of one that was told so by a token, or whose protocol has
// clients that are known by an ID. The server's API finds connections by it.
type Identity struct {
	// Set at construction.
	ID    ClientID
	State any // what the connection's protocol keeps of it; nil for nothing

	// Owned by the loop.
	User     string // "" for an anonymous one
	Info     []byte // JSON, what the token says of it
	ExpireAt int64  // Unix seconds, 0 for never
	Key      uint32 // which has verified its token; 0 for no token, KeyUnknown for one that is not known any more

	prev, next *Conn // of the same user, in no order
}

// KeyUnknown is the key of connections that another process has handed over.
const KeyUnknown uint32 = 1

// ClientID names a connection to clients. It is random, because a backend that knows one can
// ask the server's API to close the connection.
type ClientID [16]byte

// NewClientID returns a random ID.
func NewClientID() (id ClientID) {
	rand.Read(id[:]) // never fails (crypto/rand)
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

// String returns the ID as a UUID of version 4 (RFC 9562).
func (id ClientID) String() string {
	var b [36]byte
	hex.Encode(b[:], id[:4])
	hex.Encode(b[9:], id[4:6])
	hex.Encode(b[14:], id[6:8])
	hex.Encode(b[19:], id[8:10])
	hex.Encode(b[24:], id[10:])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// Know returns the connection's identity, which is a new one for a client of which nothing is known.
func (c *Conn) Know() *Identity {
	if c.Identity() == nil {
		c.extra().identity = &Identity{ID: NewClientID()}
	}
	return c.Identity()
}

// Identity returns who the connection is, nil where nobody knows.
func (c *Conn) Identity() *Identity {
	if c.ext == nil {
		return nil
	}
	return c.ext.identity
}

// Identify makes a connection, whose Hello had an Identity, one of a user: the API finds it by that.
func (l *Loop) Identify(c *Conn, user string) {
	if l.identify(c, user); c.has(bitIdentified) {
		c.connected()
	}
}

func (l *Loop) identify(c *Conn, user string) {
	c.Plant("identify")
	if c.Phase == phaseDead {
		return
	}
	who := c.Identity()
	c.bits |= bitIdentified
	who.User = user
	who.next = l.users[user]
	if who.next != nil {
		who.next.Identity().prev = c
	}
	l.users[user] = c
	l.stats.Users.Store(int64(len(l.users)))
}

// forget takes a connection off its user's, when it ends.
func (l *Loop) forget(c *Conn) {
	if !c.has(bitIdentified) {
		return
	}
	who := c.Identity()
	c.bits &^= bitIdentified
	if who.next != nil {
		who.next.Identity().prev = who.prev
	}
	switch {
	case who.prev != nil:
		who.prev.Identity().next = who.next
	case who.next != nil:
		l.users[who.User] = who.next
	default:
		delete(l.users, who.User)
		l.stats.Users.Store(int64(len(l.users)))
	}
	who.prev, who.next = nil, nil
}

// Expired closes a connection that may stay until a time, in Unix seconds, 0 for ever.
func (c *Conn) Expired(at int64) bool {
	if at == 0 || c.loop.time.Unix() < at {
		return false
	}
	c.Close(ReasonExpired)
	c.Settle()
	return true
}

// Refreshed takes what the server's API says of the connection; false where it ends.
func (c *Conn) Refreshed(a *RefreshAction) bool {
	if a.Expired {
		c.Close(ReasonExpired)
		return false
	}
	who := c.Identity()
	if who.ExpireAt = a.ExpireAt; a.Info != nil {
		who.Info = a.Info
	}
	return true
}

// WakeAtTime makes sure that c is looked at when a time has come, in Unix seconds, 0 for never.
func (c *Conn) WakeAtTime(at int64) {
	if at > 0 {
		c.loop.WakeAt(c, c.loop.now+uint32(min(max(at-c.loop.time.Unix(), 1), 1<<30)))
	}
}
