package interop

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"github.com/gorilla/websocket"
)

type gorillaPeer struct{ c *websocket.Conn }

func dialGorilla(ctx context.Context, url string, trust *tls.Config, hear func(heard)) (peer, error) {
	d := websocket.Dialer{TLSClientConfig: trust, WriteBufferSize: partBytes, EnableCompression: true}
	c, _, err := d.DialContext(ctx, url, nil)
	if err != nil {
		return nil, err
	}
	c.SetPongHandler(func(payload string) error {
		hear(heard{what: "pong", message: message{payload: payload}})
		return nil
	})
	go func() {
		defer c.Close()
		for {
			kind, payload, err := c.ReadMessage()
			if err != nil {
				end := heard{what: "closed", code: abnormal, reason: err.Error()}
				if told := (*websocket.CloseError)(nil); errors.As(err, &told) {
					end.code, end.reason = told.Code, told.Text
				}
				hear(end)
				return
			}
			hear(heard{what: "message", message: message{kind == websocket.BinaryMessage, string(payload)}})
		}
	}()
	return gorillaPeer{c}, nil
}

func (p gorillaPeer) send(m message) error {
	kind := websocket.TextMessage
	if m.binary {
		kind = websocket.BinaryMessage
	}
	return p.c.WriteMessage(kind, []byte(m.payload))
}

// sendParts: what is longer than the write buffer goes out in fragments of its size.
func (p gorillaPeer) sendParts(m message) error { return p.send(m) }

func (p gorillaPeer) ping(payload string) error {
	return p.c.WriteControl(websocket.PingMessage, []byte(payload), time.Now().Add(patience))
}

func (p gorillaPeer) close(code int, reason string) error {
	return p.c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), time.Now().Add(patience))
}
