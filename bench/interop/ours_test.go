package interop

import (
	"context"
	"crypto/tls"
	"errors"
	"iter"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"sluice/bench/wsclient"
)

// ourPeer is the client of `sluice pub` and `sluice sub`, which is made from gobwas/ws.
type ourPeer struct{ *wsclient.Conn }

func dialOurs(ctx context.Context, url string, trust *tls.Config, hear func(heard)) (peer, error) {
	if trust != nil { // one of the six stays with TLS 1.2
		trust = trust.Clone()
		trust.MaxVersion = tls.VersionTLS12
	}
	c, err := wsclient.Dialer{TLS: trust}.Dial(ctx, url)
	if err != nil {
		return nil, err
	}
	c.OnPong = func(payload []byte) { hear(heard{what: "pong", message: message{payload: string(payload)}}) }
	go func() {
		defer c.Close()
		for {
			op, payload, err := c.Next()
			if err != nil {
				end := heard{what: "closed", code: abnormal, reason: err.Error()}
				if told := (wsutil.ClosedError{}); errors.As(err, &told) {
					end.code, end.reason = int(told.Code), told.Reason
				}
				hear(end)
				return
			}
			hear(heard{what: "message", message: message{op == ws.OpBinary, string(payload)}})
		}
	}()
	return ourPeer{c}, nil
}

func ourOp(m message) ws.OpCode {
	if m.binary {
		return ws.OpBinary
	}
	return ws.OpText
}

func (p ourPeer) send(m message) error {
	return p.Send(ws.NewFrame(ourOp(m), true, []byte(m.payload)))
}

func (p ourPeer) sendParts(m message) error {
	op := ourOp(m)
	for part := range parts(m.payload) {
		if err := p.Send(ws.NewFrame(op, false, []byte(part))); err != nil {
			return err
		}
		op = ws.OpContinuation
	}
	return p.Send(ws.NewFrame(op, true, nil))
}

func (p ourPeer) ping(payload string) error { return p.Send(ws.NewPingFrame([]byte(payload))) }

func (p ourPeer) close(code int, reason string) error {
	var body []byte
	if code != noCode {
		body = ws.NewCloseFrameBody(ws.StatusCode(code), reason)
	}
	return p.Send(ws.NewCloseFrame(body))
}

// parts cuts a payload into pieces of partBytes.
func parts(payload string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for len(payload) > 0 {
			n := min(len(payload), partBytes)
			if !yield(payload[:n]) {
				return
			}
			payload = payload[n:]
		}
	}
}
