package interop

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"strings"

	"github.com/lxzan/gws"
)

type gwsPeer struct{ c *gws.Conn }

// gwsEars takes what the library tells. The built-in handler answers pings.
type gwsEars struct {
	gws.BuiltinEventHandler
	hear func(heard)
}

func dialGws(_ context.Context, url string, trust *tls.Config, hear func(heard)) (peer, error) {
	if trust != nil {
		trust = trust.Clone() // the library writes the server's name into it
	}
	c, _, err := gws.NewClient(&gwsEars{hear: hear}, &gws.ClientOption{Addr: url, TlsConfig: trust, HandshakeTimeout: patience,
		PermessageDeflate: gws.PermessageDeflate{Enabled: true, Threshold: 1}})
	if err != nil {
		return nil, err
	}
	go c.ReadLoop()
	return gwsPeer{c}, nil
}

func (e *gwsEars) OnMessage(_ *gws.Conn, m *gws.Message) {
	e.hear(heard{what: "message", message: message{m.Opcode == gws.OpcodeBinary, string(m.Bytes())}})
	m.Close() // its error is always nil
}

func (e *gwsEars) OnPong(_ *gws.Conn, payload []byte) {
	e.hear(heard{what: "pong", message: message{payload: string(payload)}})
}

func (e *gwsEars) OnClose(_ *gws.Conn, err error) {
	end := heard{what: "closed", code: abnormal, reason: err.Error()}
	if told := (*gws.CloseError)(nil); errors.As(err, &told) {
		end.code, end.reason = int(told.Code), string(told.Reason)
		if end.code == 0 {
			end.code = noCode
		}
	}
	e.hear(end)
}

func opcodeOf(m message) gws.Opcode {
	if m.binary {
		return gws.OpcodeBinary
	}
	return gws.OpcodeText
}

func (p gwsPeer) send(m message) error { return p.c.WriteMessage(opcodeOf(m), []byte(m.payload)) }

// sendParts: WriteFile makes a fragment of each Read, and an empty last one.
func (p gwsPeer) sendParts(m message) error {
	return p.c.WriteFile(opcodeOf(m), &partReader{strings.NewReader(m.payload)})
}

type partReader struct{ r io.Reader }

func (p *partReader) Read(b []byte) (int, error) { return p.r.Read(b[:min(len(b), partBytes)]) }

func (p gwsPeer) ping(payload string) error { return p.c.WritePing([]byte(payload)) }

func (p gwsPeer) close(code int, reason string) error {
	return p.c.WriteClose(uint16(code), []byte(reason))
}
