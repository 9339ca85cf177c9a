package interop

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/coder/websocket"
)

type coderPeer struct {
	c    *websocket.Conn
	hear func(heard)

	closing atomic.Bool   // close is called: it tells the end if the reader cannot
	unread  chan struct{} // closed when the reader has ended
	end     sync.Once
}

func dialCoder(ctx context.Context, url string, trust *tls.Config, hear func(heard)) (peer, error) {
	c, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{
		CompressionMode: websocket.CompressionNoContextTakeover, CompressionThreshold: 1,
		HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: trust}},
	})
	if err != nil {
		return nil, err
	}
	c.SetReadLimit(-1) // it would end at 32 KiB
	p := &coderPeer{c: c, hear: hear, unread: make(chan struct{})}
	go p.read()
	return p, nil
}

func (p *coderPeer) read() {
	defer close(p.unread)
	defer p.c.CloseNow()
	for {
		kind, payload, err := p.c.Read(context.Background())
		if err != nil {
			if websocket.CloseStatus(err) != -1 || !p.closing.Load() {
				p.closed(err)
			}
			return
		}
		p.hear(heard{what: "message", message: message{kind == websocket.MessageBinary, string(payload)}})
	}
}

func (p *coderPeer) closed(err error) {
	end := heard{what: "closed", code: abnormal, reason: err.Error()}
	if told := (websocket.CloseError{}); errors.As(err, &told) {
		end.code, end.reason = int(told.Code), told.Reason
	}
	p.end.Do(func() { p.hear(end) })
}

func kindOf(m message) websocket.MessageType {
	if m.binary {
		return websocket.MessageBinary
	}
	return websocket.MessageText
}

func (p *coderPeer) send(m message) error {
	return p.c.Write(context.Background(), kindOf(m), []byte(m.payload))
}

func (p *coderPeer) sendParts(m message) error {
	w, err := p.c.Writer(context.Background(), kindOf(m))
	if err != nil {
		return err
	}
	for part := range parts(m.payload) {
		if _, err := w.Write([]byte(part)); err != nil { // each Write is a frame
			return err
		}
	}
	return w.Close()
}

// ping sends a payload of the library's own and returns when the pong with it is there.
func (p *coderPeer) ping(payload string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.c.Ping(ctx); err != nil {
		return err
	}
	p.hear(heard{what: "pong", message: message{payload: payload}})
	return nil
}

// close: the library's Close waits for the answer, and takes it unless the reader does.
// Its nil says that the code was the same.
func (p *coderPeer) close(code int, reason string) error {
	p.closing.Store(true)
	err := p.c.Close(websocket.StatusCode(code), reason)
	if err == nil {
		err = websocket.CloseError{Code: websocket.StatusCode(code)}
	}
	<-p.unread
	p.closed(err)
	return nil
}
