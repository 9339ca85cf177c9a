package centrifugo

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"sluice/gateway/engine"
	"sluice/gateway/loop"
	"sluice/gateway/route"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"
)

// A two-way client without WebSocket is emulated: what it is sent is a stream, which is a connection as others are, and it
// sends its commands in requests of their own, each with the secret of its session. These become messages of the connection
// (loop.Conn.ReceiveOffLoop), so behind that nothing knows how a command has come.

// sessionID is the secret of an emulated session, random in all of its bits: who knows it sends commands as the client.
type sessionID [16]byte

// String returns the text by which a client names its session.
func (id sessionID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// parseSession is the inverse of String.
func parseSession(text string) (id sessionID, ok bool) {
	var b [len(id) + 2]byte // room for one that is too long
	if len(text) != base64.RawURLEncoding.EncodedLen(len(id)) {
		return id, false
	}
	n, err := base64.RawURLEncoding.Decode(b[:], []byte(text))
	copy(id[:], b[:])
	return id, err == nil && n == len(id)
}

// emulated is the session of an emulated client.
type emulated struct {
	session
	secret sessionID
}

// emulated returns the session of an emulated client, nil for another.
func (c clientConn) emulated() *emulated {
	e, _ := c.Conn.Identity().State.(*emulated)
	return e
}

// Emulation finds the connections of emulated sessions, on all nodes.
type Emulation struct {
	// Set at construction.
	node uint64
	ask  func(node uint64, request []byte, done func(answer []byte, err error))

	mu       sync.RWMutex
	sessions map[sessionID]receiver // guarded by mu: those that clients know
	held     bool                   // guarded by mu: another process may take the sessions over
}

// receiver is a connection that messages are sent to.
type receiver struct {
	conn *loop.Conn
	op   ws.OpCode // of its client's messages
}

// NewEmulation returns an Emulation for a node. ask asks another node, as engine.Router does; nil where there is none.
func NewEmulation(node uint64, ask func(node uint64, request []byte, done func(answer []byte, err error))) *Emulation {
	return &Emulation{node: node, ask: ask, sessions: make(map[sessionID]receiver)}
}

// nodeText is by what clients name a node.
func (m *Emulation) nodeText() string { return strconv.FormatUint(m.node, 36) }

func (m *Emulation) add(id sessionID, to receiver) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sessions[id] = to
}

func (m *Emulation) remove(id sessionID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.sessions, id)
}

func (m *Emulation) find(id sessionID) (receiver, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	to, ok := m.sessions[id]
	return to, ok
}

var (
	rejectSession = route.NewReject(http.StatusNotFound, "unknown_session",
		"There is no session with this name: connect again.")
	rejectEmulation = route.NewReject(http.StatusBadRequest, "bad_emulation",
		"Invalid request: use {\"session\":\"...\",\"node\":\"...\",\"data\":\"...\"} with the session and the node of the connect reply, or the same in Protobuf with application/octet-stream.")
	rejectNode = route.NewReject(http.StatusServiceUnavailable, "node_unavailable",
		"The session's node did not answer.").WithRetry(1)
)

// contentProtobuf is the type of what a client sends as Protobuf.
const contentProtobuf = "application/octet-stream"

// isProtobuf reports whether a Content-Type is that of Protobuf.
func isProtobuf(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	return strings.EqualFold(strings.TrimSpace(media), contentProtobuf)
}

// emulate takes what a client sends in a request: route.Post.Serve.
func (p *Protocol) emulate(ctx context.Context, contentType string, body []byte) *route.Reject {
	session, node, data, ok := parseEmulation(contentType, body)
	if !ok {
		return rejectEmulation
	}
	id, ok := parseSession(session)
	if !ok {
		return rejectSession
	}
	if len(data) > p.MaxMessage {
		return rejectTooLarge
	}
	m := p.Emulation
	if to, known := m.find(id); known {
		return m.deliver(to, data)
	}
	where, err := strconv.ParseUint(node, 36, 64)
	if err != nil || where == m.node || m.ask == nil {
		return rejectSession
	}
	return m.forward(ctx, where, id, data)
}

// parseEmulation decodes a request. A session's commands are a text in JSON, and bytes in Protobuf.
func parseEmulation(contentType string, body []byte) (session, node string, data []byte, ok bool) {
	if isProtobuf(contentType) {
		var req protocol.EmulationRequest
		if req.UnmarshalVT(body) != nil {
			return "", "", nil, false
		}
		return req.Session, req.Node, req.Data, true
	}
	var req struct {
		Session string `json:"session"`
		Node    string `json:"node"`
		Data    string `json:"data"`
	}
	if parseJSON(body, &req) != nil {
		return "", "", nil, false
	}
	return req.Session, req.Node, []byte(req.Data), true
}

// deliver hands commands to their session, which is this node's.
func (m *Emulation) deliver(to receiver, data []byte) *route.Reject {
	op := to.op
	if op == ws.OpText && !utf8.Valid(data) {
		op = ws.OpBinary // no text, and no JSON either: the session says so
	}
	if !to.conn.ReceiveOffLoop(op, data) {
		return rejectNode
	}
	return nil
}

// What goes between nodes: a question is the byte below, the session and the commands, the answer one byte. Questions of the
// server's API are JSON.
const (
	forwarded     byte = 'e'
	forwardTaken  byte = 1
	forwardNobody byte = 2
	forwardHeld   byte = 3 // nothing was done: ask again
)

// forwardPause is for how long a node is not asked again that is being handed over to another process, and forwardPatience
// how long it is asked.
const (
	forwardPause    = 20 * time.Millisecond
	forwardPatience = 5 * time.Second
)

// forward hands commands to another node. The session's order is kept: an engine asks a node in the order of its calls.
func (m *Emulation) forward(ctx context.Context, node uint64, id sessionID, data []byte) *route.Reject {
	ctx, cancel := context.WithTimeout(ctx, forwardPatience)
	defer cancel()
	request := make([]byte, 0, 1+len(id)+len(data))
	request = append(append(append(request, forwarded), id[:]...), data...)
	for {
		answers := make(chan byte, 1)
		m.ask(node, request, func(answer []byte, err error) {
			switch {
			case errors.Is(err, engine.ErrUnknownNode):
				answers <- forwardNobody
			case err == nil && len(answer) == 1:
				answers <- answer[0]
			default:
				answers <- 0
			}
		})
		var answer byte
		select {
		case answer = <-answers:
		case <-ctx.Done(): // the client is gone
		}
		switch answer {
		case forwardTaken:
			return nil
		case forwardNobody:
			return rejectSession
		case forwardHeld:
		default:
			return rejectNode
		}
		select {
		case <-time.After(forwardPause):
		case <-ctx.Done():
			return rejectNode
		}
	}
}

// Answer answers what another node forwards. It reports false for a question of another kind, and never blocks.
func (m *Emulation) Answer(request []byte, reply func([]byte)) bool {
	if len(request) == 0 || request[0] != forwarded {
		return false
	}
	reply([]byte{m.take(request[1:])})
	return true
}

// take hands commands to a session of this node, and returns the answer.
func (m *Emulation) take(request []byte) byte {
	var id sessionID
	if copy(id[:], request) < len(id) {
		return 0 // another version's
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	to, known := m.sessions[id]
	switch {
	case m.held:
		return forwardHeld
	case !known:
		return forwardNobody
	case m.deliver(to, request[len(id):]) != nil:
		return 0
	}
	return forwardTaken
}

// Hold has sessions take nothing from other nodes, until Release: the loops are handed over to another process. When it
// returns, what was taken is the loops'. The edge keeps away what clients themselves send.
func (m *Emulation) Hold() { m.hold(true) }

// Release ends Hold.
func (m *Emulation) Release() { m.hold(false) }

func (m *Emulation) hold(held bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = held
}

// newEmulated returns an emulated client's session.
func newEmulated() *emulated {
	e := new(emulated)
	rand.Read(e.secret[:]) // never fails (crypto/rand)
	return e
}

// known has requests find the session from now on.
func (c clientConn) known(e *emulated) {
	c.protocol.Emulation.add(e.secret, receiver{c.Conn, c.format.op()})
}
