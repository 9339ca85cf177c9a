package gateway

import (
	"encoding/json"

	"sluice/gateway/frame"

	"github.com/gobwas/ws"
)

// framing is how what a connection is sent lies in its byte stream. It makes what keeps a
// connection alive and what ends it, so that the loop does both for every protocol alike.
type framing interface {
	// reads reports whether the client sends messages. Where it does not, what comes from it
	// is discarded, and no answer is expected to a ping or to the end.
	reads() bool
	// appendPing adds what keeps a silent connection alive.
	appendPing(dst []byte) []byte
	// appendPong adds the answer to a client's ping.
	appendPong(dst, payload []byte) []byte
	// appendClose adds the end of the connection, with its reason.
	appendClose(dst []byte, code ws.StatusCode, text string) []byte
}

// webSocket is the framing of RFC 6455.
type webSocket struct{}

func (webSocket) reads() bool { return true }

func (webSocket) appendPing(dst []byte) []byte { return frame.Append(dst, ws.OpPing, nil) }

func (webSocket) appendPong(dst, payload []byte) []byte { return frame.Append(dst, ws.OpPong, payload) }

func (webSocket) appendClose(dst []byte, code ws.StatusCode, text string) []byte {
	return frame.AppendClose(dst, code, text)
}

// eventStream is the framing of Server-Sent Events (HTML standard, section 9.2). Comments
// keep it alive, and an event says why it ends.
type eventStream struct{}

func (eventStream) reads() bool { return false }

// appendPing adds a comment: a line that every reader ignores.
func (eventStream) appendPing(dst []byte) []byte { return append(dst, ":\n\n"...) }

func (eventStream) appendPong(dst, _ []byte) []byte { return dst }

func (eventStream) appendClose(dst []byte, code ws.StatusCode, text string) []byte {
	data, _ := json.Marshal(struct { // cannot fail: a number and a string
		Code   ws.StatusCode `json:"code"`
		Reason string        `json:"reason"`
	}{code, text})
	return append(append(append(dst, "event: close\ndata: "...), data...), "\n\n"...)
}
