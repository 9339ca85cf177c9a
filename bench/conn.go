package bench

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"

	"sluice/poller"
)

// conn is one subscriber's connection: a bare descriptor and the little that
// is left of a frame between two reads.
type conn struct {
	desc poller.Desc

	// Set at construction.
	loop    *loop     // nil for a publisher's own connection
	index   int       // among the loop's connections
	secure  *tls.Conn // over a wire; nil without TLS
	stream  int       // the one that it gets, where streams go apart
	node    int       // the server, of several
	session *session  // of Centrifugo's protocol; nil in others
	member  *member   // of a crowd; nil in others

	// Owned by the loop.
	fd         int    // -1 when closed
	partial    []byte // a frame's start, kept until more of it has come
	rest       int64  // payload bytes of a long frame still to come
	restFin    bool   // that frame ends its message
	fragmented bool   // a message's next fragment is due
	held       stamp  // the stamp of a message that is not yet complete ...
	heldOwn    bool   // ... if it has one of this phase
	heldAt     place  // ... and its position
	stands     standing
	event      event // of an event stream: what has come of an event ...
	midLine    bool  // ... and that a long line's rest is passed over
	inMember   bool  // ... and, in gzip, that the header has come
	cut        bool  // the server ended it
	entered    bool  // of a crowd: it has its subscriptions
	refused    bool  // ... or we, because it did not become a subscriber
}

// receiver parses what comes on connections and accounts for it. A loop has
// one; so has a publisher's own connection.
type receiver struct {
	// Owned by the goroutine that reads.
	*tally
	offset    int          // where the last stamp lay in its payload
	headBits  uint32       // a header of two or four bytes as it lies on the wire ...
	headMask  uint32       // ... the bits of it that count (0: none known)
	head      ws.Header    // ... and what gobwas/ws makes of it
	headSize  int          //
	headBuf   []byte       // for ws.ReadHeaderBuffer
	headBytes bytes.Reader // the same

	leads   []lead                            // by node: how records, or IDs of events, begin: see place
	at      uint64                            // the last offset
	inEpoch uint64                            // ... and its epoch's hash
	joined  func(c *conn, s stamp, now int64) // gets the messages instead of the tally; nil: the tally

	rejoined func(c *conn, sub *subscription, res *protocol.SubscribeResult) // gets the answers to subscriptions, too; nil: nobody

	closes map[ws.StatusCode]int64 // Close frames by code; 1005: without

	inflater inflater

	// Set at construction.
	protocol Protocol
	compress bool    // compression was asked for
	dialect  dialect // nil in other protocols than Centrifugo's
	reply    func(c *conn, frame []byte) error
}

// envelopeMax bounds the bytes of a payload in which a stamp is looked for.
const envelopeMax = 512

var (
	errClosed   = errors.New("the server sent a Close frame")
	errProtocol = errors.New("the server violated the protocol")
)

// newReceiver returns one for connections of so many nodes.
func newReceiver(p Protocol, nodes int, reply func(*conn, []byte) error) receiver {
	return receiver{
		leads:    make([]lead, nodes),
		tally:    newTally(phase{mark: 0, streams: 1}, 0),
		headBuf:  make([]byte, 0, ws.MaxHeaderSize),
		closes:   map[ws.StatusCode]int64{},
		protocol: p,
		dialect:  p.dialect(),
		reply:    reply,
	}
}

// feed takes the next bytes of c, read at now, and keeps the start of an
// unfinished frame in c.partial: the caller puts it before the bytes of the
// next read. p is the caller's again afterwards. An error ends the connection.
func (r *receiver) feed(c *conn, p []byte, now int64) error {
	switch {
	case r.protocol == SSE && r.compress:
		return r.feedPieces(c, p, now)
	case r.protocol == SSE:
		return r.feedEvents(c, p, now)
	}
	return r.feedFrames(c, p, now)
}

// feedFrames is feed for WebSocket frames.
func (r *receiver) feedFrames(c *conn, p []byte, now int64) error {
	if c.rest > 0 {
		n := min(int64(len(p)), c.rest)
		c.rest -= n
		p = p[n:]
		if c.rest > 0 {
			return nil
		}
		r.fragmentDone(c, c.restFin, now)
	}
	for len(p) > 0 {
		h, size, err := r.header(c, p)
		if err != nil {
			return err
		}
		if size == 0 {
			break // the header is not whole
		}
		have := int64(len(p) - size)
		if h.Length > have {
			if h.OpCode.IsControl() || have < envelopeMax {
				break
			}
			if r.dialect != nil || h.Rsv != 0 {
				if h.Length > messageMost {
					return fmt.Errorf("a message of %d bytes exceeds the tester's limit (%d): make clients miss fewer messages", h.Length, messageMost)
				}
				break
			}
			r.fragment(c, p[size:])
			c.rest, c.restFin, p = h.Length-have, h.Fin, nil
			break
		}
		payload := p[size : size+int(h.Length)]
		p = p[size+int(h.Length):]
		if h.Rsv != 0 {
			if !h.Rsv1() || !h.Fin || c.fragmented || !h.OpCode.IsData() {
				return fmt.Errorf("%w: a compressed message must be one frame, with RSV1", errProtocol)
			}
			if payload, err = r.inflater.message(payload); err != nil {
				return err
			}
		}
		switch {
		case h.OpCode.IsControl():
			if err := r.control(c, h.OpCode, payload); err != nil {
				return err
			}
		case r.dialect != nil:
			if !h.Fin || h.OpCode != r.dialect.opcode() {
				return fmt.Errorf("%w: a message must be one frame, text for JSON and binary for Protobuf", errProtocol)
			}
			if err := r.dialect.message(r, c, payload, now); err != nil {
				return err
			}
		case h.Fin && !c.fragmented:
			if s, own := r.stampIn(c, payload); own {
				r.arrived(c, s, now)
			}
		default:
			r.fragment(c, payload)
			r.fragmentDone(c, h.Fin, now)
		}
	}
	if len(p) > 0 || len(c.partial) > 0 {
		c.partial = append(c.partial[:0], p...)
	}
	return nil
}

// header returns the frame header at the start of p and its size, zero when p
// ends before it does.
//
// gobwas/ws reads it, but a broadcast's headers are all alike: one that lies
// on the wire as the last one did is not read again.
func (r *receiver) header(c *conn, p []byte) (h ws.Header, size int, err error) {
	if len(p) >= 4 && r.headMask != 0 && binary.BigEndian.Uint32(p)&r.headMask == r.headBits && !c.fragmented {
		return r.head, r.headSize, nil
	}
	return r.readHeader(c, p)
}

func (r *receiver) readHeader(c *conn, p []byte) (ws.Header, int, error) {
	r.headBytes.Reset(p)
	h, err := ws.ReadHeaderBuffer(&r.headBytes, r.headBuf)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return h, 0, nil
	}
	state := ws.StateClientSide
	if r.compress {
		state = state.Set(ws.StateExtended)
	}
	if c.fragmented {
		state = state.Set(ws.StateFragmented)
	}
	if err == nil {
		err = ws.CheckHeader(h, state)
	}
	if err != nil {
		return h, 0, fmt.Errorf("%w: %w", errProtocol, err)
	}
	size := len(p) - r.headBytes.Len()
	if h.OpCode.IsData() && h.Fin && !c.fragmented && len(p) >= 4 {
		switch size {
		case 2:
			r.headMask = 0xffff_0000
		case 4:
			r.headMask = 0xffff_ffff
		default:
			return h, size, nil
		}
		r.head, r.headSize = h, size
		r.headBits = binary.BigEndian.Uint32(p) & r.headMask
	}
	return h, size, nil
}

// arrived takes a message of the present phase that is complete.
func (r *receiver) arrived(c *conn, s stamp, now int64) {
	if r.joined != nil {
		r.joined(c, s, now)
		return
	}
	if r.apart && int(s.stream) != c.stream {
		r.foreign++ // of another channel
		return
	}
	r.deliver(c.index, c.node, s, now)
	if r.places != nil {
		r.placed(c.node, s, place{r.inEpoch, r.at})
	}
}

// stampIn returns the stamp of the present phase in a message, of which p is all or
// the start. It takes the message's position where messages have one.
func (r *receiver) stampIn(c *conn, p []byte) (stamp, bool) {
	if r.protocol != JSON {
		return r.findOwn(p)
	}
	if r.place(c, p) {
		return r.findOwn(p)
	}
	if findStamp(p[:min(len(p), envelopeMax)], r.mark) < 0 {
		return stamp{}, false // a record of another kind: no publication
	}
	r.holes++ // nobody can resume from it
	r.inEpoch = 0
	return r.findOwn(p)
}

// findOwn looks for a stamp of the present phase in a payload; a payload that
// has none is counted as what it is.
func (r *receiver) findOwn(payload []byte) (stamp, bool) {
	if len(payload)-r.offset >= SizeMin {
		if s, ok := readStamp(payload[r.offset:], r.mark); ok {
			return s, true
		}
	}
	return r.searchStamp(payload)
}

func (r *receiver) searchStamp(payload []byte) (stamp, bool) {
	at := findStamp(payload[:min(len(payload), envelopeMax)], r.mark)
	if at < 0 {
		r.foreign++
		return stamp{}, false
	}
	s, ok := readStamp(payload[at:], r.mark)
	if !ok {
		r.stale++
		return stamp{}, false
	}
	r.offset = at
	return s, true
}

// fragment takes the start of a frame whose message is not complete with it.
// The stamp must lie in a message's first frame.
func (r *receiver) fragment(c *conn, payload []byte) {
	if !c.fragmented {
		c.held, c.heldOwn = r.stampIn(c, payload)
		c.heldAt = place{r.inEpoch, r.at}
	}
}

// fragmentDone takes the end of such a frame.
func (r *receiver) fragmentDone(c *conn, fin bool, now int64) {
	c.fragmented = !fin
	if fin && c.heldOwn {
		c.heldOwn = false
		r.inEpoch, r.at = c.heldAt.epoch, c.heldAt.offset
		r.arrived(c, c.held, now)
	}
}

// control answers a ping and takes a Close. Frames to the server are masked.
func (r *receiver) control(c *conn, op ws.OpCode, payload []byte) error {
	switch op {
	case ws.OpPing:
		return r.reply(c, maskedFrame(ws.OpPong, payload))
	case ws.OpClose:
		code, reason := ws.ParseCloseFrameData(payload)
		if code.Empty() {
			code = ws.StatusNoStatusRcvd
		}
		r.closes[code]++
		r.reply(c, maskedFrame(ws.OpClose, payload[:min(len(payload), 2)])) // ignored: the connection ends in any case
		return fmt.Errorf("%w: %d, %q", errClosed, code, reason)
	}
	return nil // a pong that nobody asked for
}

// maskedFrame returns the bytes of a client's frame.
func maskedFrame(op ws.OpCode, payload []byte) []byte {
	return ws.MustCompileFrame(ws.MaskFrame(ws.NewFrame(op, true, payload)))
}
