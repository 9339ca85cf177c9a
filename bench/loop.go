package bench

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"

	"sluice/poller"
)

// loop reads its share of the connections, on the one goroutine of its poller.
type loop struct {
	// Set at construction.
	poller *poller.Poller
	clock  clock
	deaf   chan error // gets one error when the poller's loop has failed

	// Owned by the loop.
	receiver
	scratch []byte // a partial frame, then what one read brings behind it
	sealed  []byte // what one read brings before TLS has opened it; nil: no TLS so far
	conns   []*conn
	reads   int64    // reads that brought bytes
	bytes   int64    // that they brought
	journal *journal // of a crowd; nil in others
	gone    int64    // of the phase's deliveries, those to connections that have ended since

	// Guarded by mu.
	mu    sync.Mutex
	inbox []func()

	// Atomic: for those who watch from outside; stored once for each read.
	progress atomic.Int64 // deliveries of the present phase to live connections
	live     atomic.Int64 // connections that the server has not ended; falls after progress
}

// scratchSize is what one read takes at most: small enough to stay in the
// processor's cache between the kernel's copy and the parsing.
const scratchSize = 64 << 10

// partialMost bounds what is kept of a frame that is not whole.
func partialMost(p Protocol, compress bool) int {
	if p.dialect() != nil || compress {
		return messageMost + ws.MaxHeaderSize
	}
	return envelopeMax + ws.MaxHeaderSize
}

// clock is the run's time: nanoseconds since its start.
type clock struct{ start time.Time }

func newClock() clock      { return clock{time.Now()} }
func (c clock) now() int64 { return int64(time.Since(c.start)) }

func newLoop(c clock, t target, nodes int) (*loop, error) {
	l := &loop{clock: c, deaf: make(chan error, 1), scratch: make([]byte, partialMost(t.protocol, t.compress)+scratchSize)}
	l.receiver = newReceiver(t.protocol, nodes, (*conn).write)
	l.compress = t.compress
	loop, err := poller.New(func() {}, l.drainInbox, func(err error) { l.deaf <- err })
	if err != nil {
		return nil, err
	}
	l.poller = loop
	return l, nil
}

// do runs f on the loop and waits for it; on a loop that has failed f does not
// run.
func (l *loop) do(f func()) {
	done := make(chan struct{})
	l.mu.Lock()
	l.inbox = append(l.inbox, func() { f(); close(done) })
	l.mu.Unlock()
	l.poller.Wake()
	select {
	case <-done:
	case err := <-l.deaf:
		l.deaf <- err // for the next one who asks
	}
}

func (l *loop) drainInbox() {
	l.mu.Lock()
	todo := l.inbox
	l.inbox = nil
	l.mu.Unlock()
	for _, f := range todo {
		f()
	}
}

// write sends a frame in a loop.
func (c *conn) write(frame []byte) error {
	if c.secure != nil {
		_, err := c.secure.Write(frame)
		return err
	}
	n, err := poller.Write(c.fd, frame)
	if err == nil && n > 0 && n < len(frame) {
		return io.ErrShortWrite // a cut frame cannot be mended; zero is only an unanswered ping
	}
	return err
}

// add takes a detached descriptor with its TLS and its session if it has any, and the
// bytes that came behind its handshake.
func (l *loop) add(c *conn, early []byte) error {
	c.loop, c.index = l, len(l.conns)
	fd, secure := c.fd, c.secure
	if err := l.poller.Add(&c.desc, fd, poller.Readable, c); err != nil {
		poller.Close(fd) // ignored: the error that matters is err
		c.fd = -1
		return err
	}
	l.conns = append(l.conns, c)
	l.live.Add(1)
	if len(early) > 0 {
		if err := l.feed(c, early, l.clock.now()); err != nil {
			l.end(c, err)
			return nil
		}
	}
	if secure != nil {
		if l.sealed == nil {
			l.sealed = make([]byte, scratchSize)
		}
		l.open(c) // no event tells of what TLS has read already
	}
	return nil
}

// Ready takes one read's worth of bytes. It is the tester's hot path.
func (c *conn) Ready(poller.Events) {
	l := c.loop
	if c.secure != nil {
		l.readSealed(c)
		return
	}
	kept := copy(l.scratch, c.partial)
	n, err := poller.Read(c.fd, l.scratch[kept:kept+scratchSize])
	if n > 0 {
		l.reads++
		l.bytes += int64(n)
		err = l.feed(c, l.scratch[:kept+n], l.clock.now())
		l.progress.Store(l.delivered - l.gone)
	}
	if err != nil {
		l.end(c, err)
	}
}

// readSealed is Ready over TLS.
func (l *loop) readSealed(c *conn) {
	w := c.secure.NetConn().(*wire)
	n, err := poller.Read(c.fd, l.sealed)
	if n == 0 && err == nil {
		return
	}
	w.come, w.ended = l.sealed[:n], err
	l.reads++
	l.bytes += int64(n)
	l.open(c)
}

// open feeds all that TLS can open of what has come.
func (l *loop) open(c *conn) {
	now := l.clock.now()
	for {
		kept := copy(l.scratch, c.partial)
		n, err := c.secure.Read(l.scratch[kept : kept+scratchSize])
		if n > 0 {
			if e := l.feed(c, l.scratch[:kept+n], now); e != nil {
				err = e
			}
		}
		if err == nil {
			continue
		}
		l.progress.Store(l.delivered - l.gone)
		if !errors.Is(err, errLater) {
			l.end(c, err)
		}
		return
	}
}

// end returns up a connection that the server, or an error, has ended.
func (l *loop) end(c *conn, why error) {
	c.cut = true
	if c.session != nil {
		c.session.settle(why)
	}
	l.gone += l.received(c.index)
	l.progress.Store(l.delivered - l.gone)
	l.live.Add(-1)
	l.release(c)
	if c.member != nil {
		c.member.left(c)
	}
}

// refuse returns up a connection that has not become a subscriber.
func (l *loop) refuse(c *conn) {
	c.refused = true
	if !c.cut && c.fd >= 0 {
		l.end(c, nil)
	}
}

// release returns the descriptor back.
func (l *loop) release(c *conn) {
	if c.fd < 0 {
		return
	}
	if c.secure != nil && !c.cut {
		c.secure.CloseWrite() // ignored: only what an orderly end owes the server
	}
	l.poller.Del(&c.desc) // ignored: the descriptor is closed next in any case
	poller.Close(c.fd)    // ignored: the same
	c.fd = -1
	c.partial = nil
}

// begin opens the account of a phase, on the loop, for the connections that are there,
// or for as many as room says when more are to come.
func (l *loop) begin(p phase, room int) {
	l.tally = newTally(p, max(len(l.conns), room))
	l.reads, l.bytes, l.gone = 0, 0, 0
	l.progress.Store(0)
}

// finish closes the account of a phase, on the loop, and returns it away.
func (l *loop) finish() *tally {
	t := l.tally
	t.flush()
	l.tally = newTally(phase{mark: t.mark.inPhase(0), streams: 1}, 0)
	return t
}

// close ends the loop and all of its connections.
func (l *loop) close() error {
	l.do(func() {
		for _, c := range l.conns {
			if c.fd >= 0 && l.protocol != SSE {
				c.write(goodbye) // ignored: the connection is closed next
			}
			l.release(c)
		}
		l.conns = nil
	})
	return l.poller.Close()
}
