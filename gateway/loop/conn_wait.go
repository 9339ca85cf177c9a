package loop

import (
	"time"

	"sluice/gateway/engine"
	"sluice/gateway/frame"
	"sluice/poller"
)

// Wait is a message that waits, decoded, with what is still to be done about it: for a token's
// verdict, for room in a channel, for an engine. Meanwhile the connection is not read, and what
// its client has sent behind the message waits too. Methods are called on the connection's loop.
// After Resume or Late a Wait is over, unless it is returned: what comes for it later is ignored.
type Wait interface {
	// Resume continues when what was waited for has come (Conn.Resume). It returns what the rest
	// of the message waits for, nil if the message is done.
	Resume(c *Conn) Wait
	// Late is called instead after waitSeconds. A Wait that has another bound returns itself.
	Late(c *Conn) Wait
	// Cancel releases what the Wait holds: the connection has ended, or Resume or Late panicked.
	Cancel()
	// Moot reports whether nobody but the client needs what is still to be done: it does not wait
	// for that when the client is gone.
	Moot(c *Conn) bool
	// Size returns how many bytes it holds, which are counted as the connection's.
	Size() int
	// Again returns a message with which the protocol of another process does what is still to be done, from the beginning;
	// ok is false if there is none. The payload is valid until the Wait goes on.
	Again(c *Conn) (m frame.Message, ok bool)
}

// waitSeconds is when a Wait is late, in loop time.
const waitSeconds = uint32(engine.Patience / time.Second)

// AfterReplies returns w as the Wait of a message whose rest has to wait until the client has
// been sent the replies to what came before (Full). w is not Late.
func AfterReplies(w Wait) Wait { return afterReplies{w} }

type afterReplies struct{ Wait }

func (w afterReplies) Late(*Conn) Wait { return w }

// Parked reports whether the connection waits with a message.
func (c *Conn) Parked() bool { return c.In != nil && c.In.wait != nil }

// Waiting returns the message that waits, nil for none.
func (c *Conn) Waiting() Wait {
	if c.In == nil {
		return nil
	}
	return c.In.wait
}

// await lets the connection wait, unless w is nil or the connection ends. It reports whether it does.
func (c *Conn) await(w Wait) bool {
	if w == nil {
		return false
	}
	if c.Phase != phaseOpen {
		w.Cancel()
		return false
	}
	in := c.input()
	in.wait, in.late = w, c.loop.now+waitSeconds
	c.loop.WakeAt(c, in.late)
	return true
}

// Resume resumes the connection, if it waits: what it waits for has come. It reports whether it
// did wait. The one that calls it has to know that this is what is waited for.
func (c *Conn) Resume() bool {
	if !c.Parked() {
		return false
	}
	c.step(func(c *Conn) {
		c.resume(Wait.Resume)
		c.Settle()
	})
	return true
}

// resumable reports whether what was put off behind replies can go on.
func (c *Conn) resumable() bool {
	if c.Phase != phaseOpen || !c.hasPutOff() || c.Full() {
		return false
	}
	_, replies := c.In.wait.(afterReplies)
	return replies || c.In.wait == nil && !c.unanswered()
}

// resume goes on with the message that waits, if any, and with the bytes behind it.
func (c *Conn) resume(do func(Wait, *Conn) Wait) {
	c.excuse()
	waits := false
	if w := c.In.wait; w != nil {
		c.In.wait = nil
		waits = c.await(c.proceed(w, do))
	}
	if c.Phase != phaseOpen {
		return
	}
	if !waits {
		rest := c.In.kept.Bytes()
		c.In.kept.n = 0
		if c.unanswered() {
			c.respond()
		}
		c.feed(rest)
	}
	if !c.has(bitBlocked) && c.Out != nil {
		c.Flush() // what was done before it has to wait again
	}
	// A peer that hung up meanwhile is not watched any more: what the kernel has of
	// it is read now.
	for !c.Active() && c.Phase == phaseOpen && c.reads() {
		c.read(poller.Hangup)
	}
}

// proceed has a Wait Resume or be Late, and cancels it if that panics.
func (c *Conn) proceed(w Wait, do func(Wait, *Conn) Wait) Wait {
	panics := true
	defer func() {
		if panics {
			w.Cancel()
		}
	}()
	next := do(w, c)
	panics = false
	return next
}

// unpark cancels the message that waits.
func (c *Conn) unpark() {
	if c.Parked() {
		w := c.In.wait
		c.In.wait = nil
		c.Plant("cancel")
		w.Cancel()
	}
}

// putOff keeps bytes that the client has sent behind a message that waits, or behind a reply that
// could not be sent.
func (c *Conn) putOff(rest []byte) { c.input().kept.Keep(rest) }

// Kept is bytes of a client in a buffer of their own. They are used from the front.
type Kept struct {
	buf []byte
	n   int // of it, at its end
}

// Bytes returns the bytes.
func (k *Kept) Bytes() []byte { return k.buf[len(k.buf)-k.n:] }

// Keep keeps p instead. Where p is the end of the buffer already it stays there, as long as the
// buffer is not much larger: so bytes that wait time and again are copied a few times at most.
func (k *Kept) Keep(p []byte) {
	if len(p) == 0 {
		*k = Kept{}
		return
	}
	start := len(k.buf) - len(p)
	if start < 0 || &k.buf[start] != &p[0] || cap(k.buf) > 2*len(p)+keptSlack {
		k.buf = append(make([]byte, 0, len(p)), p...)
	}
	k.n = len(p)
}

// keptSlack is how much larger than half used a buffer may be to be kept.
const keptSlack = 512

// Size returns the size of the buffer.
func (k *Kept) Size() int { return cap(k.buf) }
