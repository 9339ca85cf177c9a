package handshake

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/gobwas/ws"
)

// An Upgrader answers upgrades that [Parse] accepted.
type Upgrader struct {
	// Set at construction.
	protocols []string
	deflate   bool
	upgrader  ws.Upgrader
}

// NewUpgrader returns an Upgrader that supports these subprotocols, each a [Token], and permessage-deflate if
// deflate is set.
func NewUpgrader(subprotocols []string, deflate bool) *Upgrader {
	u := &Upgrader{protocols: slices.Clone(subprotocols), deflate: deflate}
	if len(u.protocols) > 0 {
		u.upgrader.ProtocolCustom = u.choose
	}
	return u
}

// Agreed is what an upgrade's response says.
type Agreed struct {
	// Protocol is the chosen subprotocol: the first that the client offers and that is in the configured list,
	// or "".
	Protocol string
	Deflate  bool // permessage-deflate, of which neither side keeps its context
}

// Upgrade runs ws.Upgrader over head, which Parse accepted, and writes its 101 to
// w with one Write. Extensions other than permessage-deflate are declined, and so is what is malformed.
//
// An error that is a *route.Reject means that nothing was written, and is a fault of
// this package. Any other error is that of w.
func (u *Upgrader) Upgrade(head []byte, w io.Writer) (Agreed, error) {
	x := exchanges.Get().(*exchange)
	defer x.free()
	rest, deflate := head, u.deflate && !keepsContext(head)
	hs, err := u.run(x, rest, deflate)
	if deflate && errors.Is(err, ws.ErrMalformedRequest) { // the list of extensions is
		deflate = false
		hs, err = u.run(x, rest, deflate)
	}
	if errors.Is(err, ws.ErrHandshakeBadUpgrade) { // a list, of which it knows only the one element
		rest = webSocketAlone(head)
		hs, err = u.run(x, rest, deflate)
	}
	if deflate && errors.Is(err, ws.ErrMalformedRequest) { // it has come to that only now
		hs, err = u.run(x, rest, false)
	}
	if err != nil {
		// Its answer is dropped, because an error's text may quote the request.
		return Agreed{}, rejectUpgrader
	}
	if _, err := w.Write(x.answer); err != nil {
		return Agreed{}, fmt.Errorf("write the upgrade's response: %w", err)
	}
	return Agreed{Protocol: hs.Protocol, Deflate: len(hs.Extensions) > 0}, nil
}

// run runs ws.Upgrader once. deflate: permessage-deflate may be negotiated.
func (u *Upgrader) run(x *exchange, head []byte, deflate bool) (ws.Handshake, error) {
	x.rest, x.answer = head, x.space[:0]
	if !deflate {
		return u.upgrader.Upgrade(x)
	}
	upgrader := u.upgrader
	upgrader.Negotiate = new(negotiation).negotiate
	return upgrader.Upgrade(x)
}

// webSocketAlone returns a copy of a head whose Upgrade field names nothing but websocket.
func webSocketAlone(head []byte) []byte {
	alone := make([]byte, 0, len(head))
	for line := range bytes.Lines(head) {
		if name, _, _ := bytes.Cut(line, colon); equalFold(string(name), "upgrade") {
			line = []byte("Upgrade: websocket\r\n")
		}
		alone = append(alone, line...)
	}
	return alone
}

// choose is given one Sec-WebSocket-Protocol field after the other until it
// names a protocol.
func (u *Upgrader) choose(list []byte) (string, bool) {
	for len(list) > 0 {
		var offered []byte
		offered, list, _ = bytes.Cut(list, comma)
		offered = bytes.Trim(offered, " \t")
		for _, p := range u.protocols {
			if string(offered) == p {
				return p, true
			}
		}
	}
	return "", true
}

var (
	comma = []byte{','}
	colon = []byte{':'}
)

// exchange is the connection that ws.Upgrader sees. It holds the answer back, so
// that one of an upgrade that fails can be dropped.
type exchange struct {
	rest   []byte // of the head
	answer []byte
	space  [256]byte // room for an ordinary answer
}

// exchanges are those that are not in use: ws.Upgrader would have each on the heap.
var exchanges = sync.Pool{New: func() any { return new(exchange) }}

func (x *exchange) free() {
	x.rest, x.answer = nil, nil
	exchanges.Put(x)
}

func (x *exchange) Read(p []byte) (int, error) {
	if len(x.rest) == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n := copy(p, x.rest)
	x.rest = x.rest[n:]
	for i := range p[:n] {
		if p[i] == '\t' { // white space as well (RFC 9110 section 5.6.3), which httphead does not know in a list
			p[i] = ' '
		}
	}
	return n, nil
}

func (x *exchange) Write(p []byte) (int, error) {
	x.answer = append(x.answer, p...)
	return len(p), nil
}
