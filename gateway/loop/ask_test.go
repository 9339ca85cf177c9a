package loop

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"sluice/gateway/clienttest"

	"github.com/gobwas/ws"
)

// asks has a client ask, and returns the question.
func asks(t *testing.T, s *loops, target string) (*clienttest.Client, question) {
	t.Helper()
	key, asked := t.Name(), make(chan question, 1)
	questions.Store(key, asked)
	c := clienttest.Ask(t, s, target+"ask="+strings.ReplaceAll(key, "/", "%2F"))
	return c, <-asked
}

// While a client's question is not answered it is sent nothing, also when it is time for a ping, and what it sends waits.
func TestResponseWaitsForAnAnswer(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{PingInterval: time.Second, RealSeconds: true})
	c, q := asks(t, s, "/ws/x?")
	c.Send(clienttest.Text("early"))
	c.Conn.SetReadDeadline(time.Now().Add(2500 * time.Millisecond)) // ignored: then the read waits
	if n, err := c.Conn.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Fatalf("read %d bytes before the answer, %v", n, err)
	}
	c.Patience()
	q.answer("", nil)
	c.WantUpgrade("it may")
	for {
		switch op, p, err := c.Next(); {
		case err != nil:
			t.Fatal(err)
		case op == ws.OpPing: // it was due
			continue
		case p != "early":
			t.Errorf("got %q, want what it has sent", p)
		}
		break
	}
}

// The answer may be another response than the one that was ready, and the connection ends with that.
func TestAnotherResponse(t *testing.T) {
	t.Parallel()
	const refusal = "HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnot!"
	s := startLoops(t, loopsConfig{PingInterval: -1})
	for i, target := range []string{"/ws/x?", "/sse/x?"} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			c, q := asks(t, s, target)
			q.answer(refusal, nil)
			got, err := io.ReadAll(c.Conn)
			if string(got) != refusal || err != nil {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
	if s.space.Find("x") != nil {
		t.Error("a client that may not has begun the channel")
	}
}

// Where the question fails, the client gets the response and is sent the reason.
func TestQuestionThatFails(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{PingInterval: -1})
	c, q := asks(t, s, "/ws/x?")
	q.answer("", errors.New("nobody knows"))
	c.WantUpgrade("the response")
	c.WantClose("the question has failed", 1013)
}

// A client that goes takes its question back, and an answer that comes all the same does nothing.
func TestQuestionOfOneThatGoes(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{PingInterval: -1})
	c, q := asks(t, s, "/ws/x?")
	c.Fin()
	<-q.canceled
	q.answer("", nil)
	clienttest.WaitFor(t, "the connection to be gone", func() bool { return s.connections() == 0 })
	if s.space.Find("x") != nil {
		t.Error("it has joined")
	}
}
