package main

import (
	"context"
	"crypto/tls"
	"io"
	"iter"
	"net"
	"sync"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// gobwasPeer locks what it writes: the answers to control frames are written by the
// reader.
type gobwasPeer struct {
	c  net.Conn
	mu sync.Mutex
}

func dialGobwas(ctx context.Context, url string, trust *tls.Config, hear func(heard)) (peer, error) {
	if trust != nil { // one of the six stays with TLS 1.2
		trust = trust.Clone()
		trust.MaxVersion = tls.VersionTLS12
	}
	d := ws.Dialer{TLSConfig: trust}
	c, early, _, err := d.Dial(ctx, url)
	if err != nil {
		return nil, err
	}
	p := &gobwasPeer{c: c}
	var r io.Reader = c
	if early != nil {
		r = early // frames that came with the answer, and the connection behind them
	}
	go func() {
		defer c.Close()
		for {
			if end := p.read(r, hear); end != nil {
				hear(*end)
				return
			}
		}
	}()
	return p, nil
}

// read takes what comes next, and gives the end when that is it.
func (p *gobwasPeer) read(r io.Reader, hear func(heard)) (end *heard) {
	ms, err := wsutil.ReadServerMessage(r, nil)
	for _, m := range ms {
		switch {
		case m.OpCode == ws.OpPong:
			hear(heard{what: "pong", message: message{payload: string(m.Payload)}})
		case m.OpCode.IsControl() && err == nil:
			p.mu.Lock()
			err = wsutil.HandleServerControlMessage(p.c, m)
			p.mu.Unlock()
			if m.OpCode == ws.OpClose { // what it says counts even if it cannot be answered any more
				code, reason := ws.ParseCloseFrameData(m.Payload)
				if code.Empty() {
					code = noCode
				}
				return &heard{what: "closed", code: int(code), reason: reason}
			}
		case err == nil:
			hear(heard{what: "message", message: message{m.OpCode == ws.OpBinary, string(m.Payload)}})
		}
	}
	if err == nil {
		return nil
	}
	return &heard{what: "closed", code: abnormal, reason: err.Error()}
}

func (p *gobwasPeer) frame(op ws.OpCode, fin bool, payload string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return ws.WriteFrame(p.c, ws.MaskFrameInPlace(ws.NewFrame(op, fin, []byte(payload))))
}

func gobwasOp(m message) ws.OpCode {
	if m.binary {
		return ws.OpBinary
	}
	return ws.OpText
}

func (p *gobwasPeer) send(m message) error { return p.frame(gobwasOp(m), true, m.payload) }

func (p *gobwasPeer) sendParts(m message) error {
	op := gobwasOp(m)
	for part := range parts(m.payload) {
		if err := p.frame(op, false, part); err != nil {
			return err
		}
		op = ws.OpContinuation
	}
	return p.frame(op, true, "")
}

func (p *gobwasPeer) ping(payload string) error { return p.frame(ws.OpPing, true, payload) }

func (p *gobwasPeer) close(code int, reason string) error {
	var body []byte
	if code != noCode {
		body = ws.NewCloseFrameBody(ws.StatusCode(code), reason)
	}
	return p.frame(ws.OpClose, true, string(body))
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
