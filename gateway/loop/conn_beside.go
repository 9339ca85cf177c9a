package loop

import (
	"slices"

	"sluice/gateway/frame"

	"github.com/gobwas/ws"
)

// A client whose framing does not read input, such as that of an event stream, may send its messages beside its connection, in
// requests of HTTP. Here they become frames of a client, as if they had come from its socket: everything behind that is the
// same, what waits and what travels to another process included.

// besideSlack is how much more than a message may wait beside a connection.
const besideSlack = 64 << 10

// beside is a message that a client has sent beside its connection.
type beside struct {
	c     *Conn
	frame []byte
}

// ReceiveOffLoop hands a message to the connection that its client has sent beside it. Messages are processed in the order of
// the calls. It may be called from any goroutine, and copies the payload, which has to be UTF-8 for ws.OpText. It returns false
// if the loop has ended.
func (c *Conn) ReceiveOffLoop(op ws.OpCode, payload []byte) bool {
	return c.loop.Post(&beside{c, frame.AppendMasked(make([]byte, 0, len(payload)+maskedHeaderMax), op, payload)})
}

// maskedHeaderMax is the size of the longest header of a client's frame.
const maskedHeaderMax = 14

// Deliver implements Message.
func (b *beside) Deliver(*Loop) {
	if b.c.Phase != phaseOpen {
		return // its client is being sent why it ends, or is gone
	}
	b.c.step(func(c *Conn) {
		c.receiveBeside(b.frame)
		c.Settle()
	})
}

// receiveBeside processes a client's frame, or puts it off behind what waits. A client that sends more than can wait is too
// fast: nothing else would hold it up, as a socket that is not read does.
func (c *Conn) receiveBeside(p []byte) {
	c.Plant("receiveBeside")
	c.alive(len(p))
	if !c.hasPutOff() {
		c.feed(p)
		return
	}
	waits := c.In.kept.Bytes()
	if len(waits)+len(p) > c.loop.limits.MessageBytesMax+besideSlack {
		c.Close(ReasonMessageRate)
		return
	}
	c.putOff(slices.Concat(waits, p))
}
