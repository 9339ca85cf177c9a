package gateway

import (
	"crypto/rand"
	"encoding/hex"
	"time"
)

// identity is who a connection is: of one that was told so by a token, or whose protocol has
// clients that are known by an ID. The server's API finds connections by it.
type identity struct {
	// Set at construction.
	id    clientID
	state any // what the connection's protocol keeps of it; nil for nothing

	// Owned by the loop.
	user     string // "" for an anonymous one
	info     []byte // JSON, what the token says of it
	expireAt int64  // Unix seconds, 0 for never

	prev, next *conn // of the same user, in no order
}

// clientID names a connection to clients. It is random, because a backend that knows one can
// ask the server's API to close the connection.
type clientID [16]byte

func newClientID() (id clientID) {
	rand.Read(id[:]) // never fails (crypto/rand)
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

// String returns the ID as a UUID of version 4 (RFC 9562).
func (id clientID) String() string {
	var b [36]byte
	hex.Encode(b[:], id[:4])
	hex.Encode(b[9:], id[4:6])
	hex.Encode(b[14:], id[6:8])
	hex.Encode(b[19:], id[8:10])
	hex.Encode(b[24:], id[10:])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// identity returns who the connection is, nil where nobody knows.
func (c *conn) identity() *identity {
	if c.ext == nil {
		return nil
	}
	return c.ext.identity
}

// identify makes a connection one of a user.
func (l *loop) identify(c *conn, user string) {
	c.plant("identify")
	if c.phase == phaseDead {
		return
	}
	who := c.identity()
	c.bits |= bitIdentified
	who.user = user
	who.next = l.users[user]
	if who.next != nil {
		who.next.identity().prev = c
	}
	l.users[user] = c
	l.stats.users.Store(int64(len(l.users)))
}

// forget takes a connection off its user's, when it ends.
func (l *loop) forget(c *conn) {
	if !c.has(bitIdentified) {
		return
	}
	who := c.identity()
	c.bits &^= bitIdentified
	if who.next != nil {
		who.next.identity().prev = who.prev
	}
	switch {
	case who.prev != nil:
		who.prev.identity().next = who.next
	case who.next != nil:
		l.users[who.user] = who.next
	default:
		delete(l.users, who.user)
		l.stats.users.Store(int64(len(l.users)))
	}
	who.prev, who.next = nil, nil
}

// expired closes a connection that may stay until a time, in Unix seconds, 0 for ever.
func (c *conn) expired(at int64) bool {
	if at == 0 || time.Now().Unix() < at {
		return false
	}
	c.close(reasonExpired)
	c.settle()
	return true
}

// refreshed takes what the server's API says of the connection; false where it ends.
func (c *conn) refreshed(a *refreshAction) bool {
	if a.expired {
		c.close(reasonExpired)
		return false
	}
	who := c.identity()
	if who.expireAt = a.expireAt; a.info != nil {
		who.info = a.info
	}
	return true
}

// wakeAtTime makes sure that c is looked at when a time has come, in Unix seconds, 0 for never.
func (c *conn) wakeAtTime(at int64) {
	if at > 0 {
		c.loop.wakeAt(c, c.loop.now+uint32(min(max(at-time.Now().Unix(), 1), 1<<30)))
	}
}
