package gateway

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

func TestSmoke(t *testing.T) {
	s, err := New(Config{Loops: 2})
	if err != nil {
		t.Fatal(err)
	}
	l, err := Listen(context.Background(), "tcp", "127.0.0.1:0", 64<<10)
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	url := "ws://" + l.Addr().String()
	var conns []*websocket.Conn
	for range 5 {
		c, _, err := websocket.DefaultDialer.Dial(url+"/ws", nil)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	conns[0].WriteMessage(websocket.TextMessage, []byte("hello"))
	for _, c := range conns {
		c.SetReadDeadline(time.Now().Add(2 * time.Second))
		op, p, err := c.ReadMessage()
		if err != nil || op != 1 || string(p) != "hello" {
			t.Fatal(op, string(p), err)
		}
	}
	r := httptest.NewRecorder()
	req := httptest.NewRequest("POST", "http://127.0.0.1/publish/lobby", strings.NewReader("x"))
	s.InternalHandler(Internal{}).ServeHTTP(r, req)
	t.Log(r.Code, r.Body.String())
	for _, c := range conns {
		_, p, err := c.ReadMessage()
		if err != nil || string(p) != "x" {
			t.Fatal(string(p), err)
		}
	}
	done := make(chan error)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		done <- s.Shutdown(ctx)
	}()
	for _, c := range conns {
		_, _, err := c.ReadMessage()
		t.Log(err)
		c.Close()
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
