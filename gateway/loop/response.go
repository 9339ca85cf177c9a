package loop

import (
	"bytes"
	"unique"
)

// The response to a request is held while a hook decides about its client. Thousands of clients wait when a backend hangs,
// and their responses differ in a few bytes: so what they have in common is held once.

// response is the held response of a connection, and what is behind it.
type response struct {
	common unique.Handle[string] // the text, with zeros in place of what is the client's own
	own    [ownMax]byte
	at     uint16 // where the own bytes are
	n      uint8  // how many they are
}

const ownMax = 28

// own are the bytes that differ, by what is before them: the key's digest (RFC 6455 section 4.2.2), and the time after which an
// EventSource comes again.
var own = [...]struct {
	before []byte
	n      int
}{{[]byte("\r\nSec-WebSocket-Accept: "), ownMax}, {[]byte("\nretry: "), 4}}

// compact returns the response as it is held.
func compact(text []byte) *response {
	r := new(response)
	for _, o := range own {
		i := bytes.Index(text, o.before)
		if at := i + len(o.before); i >= 0 && at+o.n <= len(text) && at < 1<<16 {
			r.at, r.n = uint16(at), uint8(o.n)
			copy(r.own[:], text[at:at+o.n])
			clear(text[at : at+o.n])
			break
		}
	}
	r.common = unique.Make(string(text))
	return r
}

// append appends the response as it is sent.
func (r *response) append(dst []byte) []byte {
	begin := len(dst)
	dst = append(dst, r.common.Value()...)
	copy(dst[begin+int(r.at):], r.own[:r.n])
	return dst
}

// unanswered reports whether the response to the client's request may still be another one.
func (c *Conn) unanswered() bool {
	return c.ext != nil && c.ext.response != nil || c.Out != nil && c.Out.response
}

// hold takes the response out of the outbox, which is not needed until the connection goes on.
func (c *Conn) hold() {
	if o := c.Out; o != nil && o.response && o.sent == 0 && len(o.pong) == 0 && o.catch == nil {
		r := compact(o.buf)
		c.dropOutput()
		c.extra().response = r
	}
}

// release puts the response into the outbox again, if it is held.
func (c *Conn) release() {
	if e := c.ext; e != nil && e.response != nil {
		r := e.response
		e.response = nil
		o := c.output()
		o.buf, o.response = r.append(o.buf), true
	}
}
