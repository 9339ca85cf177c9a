package interop

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
)

// script is a process of peer.mjs: clients that are JavaScript. Orders go to its
// standard input and what it hears comes from its standard output, a line of JSON each.
type script struct {
	process *exec.Cmd
	orders  io.WriteCloser

	mu      sync.Mutex // also: one order is written at a time
	nextID  int
	waiting map[int]chan error  // dials that are not answered
	hearers map[int]func(heard) // open connections
}

// line is an order or an answer. What is no text goes as base64.
type line struct {
	Conn    int    `json:"conn,omitempty"`
	Do      string `json:"do,omitempty"` // dial, send, ping, close
	URL     string `json:"url,omitempty"`
	Binary  bool   `json:"binary,omitempty"`
	Part    int    `json:"part,omitempty"`
	Is      string `json:"is,omitempty"` // ready, open, failed, message, pong, closed
	Text    string `json:"text,omitempty"`
	Base64  []byte `json:"base64,omitempty"`
	Code    int    `json:"code,omitempty"`
	Version string `json:"version,omitempty"`
}

func startScript(ctx context.Context, t *testing.T, kind string, cert *certificate, more ...string) *script {
	t.Helper()
	s := &script{waiting: map[int]chan error{}, hearers: map[int]func(heard){}}
	s.process = exec.CommandContext(ctx, "node", append([]string{"peer.mjs", kind, cert.certFile, cert.pin}, more...)...)
	s.process.Stderr = os.Stderr
	s.process.WaitDelay = patience
	var err error
	if s.orders, err = s.process.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	answers, err := s.process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	in := bufio.NewReaderSize(answers, 1<<20)
	var ready line
	if err := readLine(in, &ready); err != nil || ready.Is != "ready" {
		t.Fatalf("peer.mjs %s did not start: %v", kind, err)
	}
	t.Logf("%s is version %s", kind, ready.Version)
	go s.listen(in)
	return s
}

func readLine(in *bufio.Reader, l *line) error {
	text, err := in.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(text, l)
}

// listen deals out what the process hears, until it ends.
func (s *script) listen(in *bufio.Reader) {
	for {
		var l line
		err := readLine(in, &l)
		s.mu.Lock()
		if err != nil {
			for _, w := range s.waiting {
				w <- fmt.Errorf("peer.mjs ended: %w", err)
			}
			s.waiting = nil
			s.mu.Unlock()
			return
		}
		hear, w := s.hearers[l.Conn], s.waiting[l.Conn]
		switch l.Is {
		case "open":
			delete(s.waiting, l.Conn)
			w <- nil
		case "failed":
			delete(s.waiting, l.Conn)
			w <- errors.New(l.Text)
		default:
			payload := l.Text
			if l.Base64 != nil {
				payload = string(l.Base64)
			}
			h := heard{what: l.Is, code: l.Code, message: message{l.Binary, payload}}
			if l.Is == "closed" {
				h.message, h.reason = message{}, l.Text
			}
			hear(h)
		}
		s.mu.Unlock()
	}
}

func (s *script) order(l line) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err = s.orders.Write(append(text, '\n'))
	return err
}

// dial trusts the certificate that the process was started with.
func (s *script) dial(ctx context.Context, url string, _ *tls.Config, hear func(heard)) (peer, error) {
	s.mu.Lock()
	if s.waiting == nil {
		s.mu.Unlock()
		return nil, errors.New("peer.mjs has ended")
	}
	s.nextID++
	id, opened := s.nextID, make(chan error, 1)
	s.waiting[id], s.hearers[id] = opened, hear
	s.mu.Unlock()
	if err := s.order(line{Conn: id, Do: "dial", URL: url}); err != nil {
		return nil, err
	}
	select {
	case err := <-opened:
		return scriptPeer{s, id}, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// stop ends the process: it does so by itself at the end of its input.
func (s *script) stop() {
	s.orders.Close()
	late := time.AfterFunc(patience, func() { s.process.Process.Kill() })
	defer late.Stop()
	s.process.Wait() // what it ends with says nothing that the cases did not say
}

type scriptPeer struct {
	s  *script
	id int
}

func (p scriptPeer) order(do string, m message, part int) error {
	l := line{Conn: p.id, Do: do, Binary: m.binary, Part: part}
	if m.binary || !utf8.ValidString(m.payload) {
		l.Base64 = []byte(m.payload)
	} else {
		l.Text = m.payload
	}
	return p.s.order(l)
}

func (p scriptPeer) send(m message) error      { return p.order("send", m, 0) }
func (p scriptPeer) sendParts(m message) error { return p.order("send", m, partBytes) }
func (p scriptPeer) ping(payload string) error { return p.order("ping", message{payload: payload}, 0) }

func (p scriptPeer) close(code int, reason string) error {
	if code == noCode {
		code = 0
	}
	return p.s.order(line{Conn: p.id, Do: "close", Code: code, Text: reason})
}
