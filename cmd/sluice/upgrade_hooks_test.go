package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sluice/cmd/internal/clitest"
)

// A client that waits for a hook goes on in the new process, which asks again.
func TestUpgradeWhileHooksArePending(t *testing.T) {
	asked, canceled := make(chan struct{}, 2), make(chan struct{}, 2)
	var calls atomic.Int32
	b := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // ignored: the server watches the connection from here on
		asked <- struct{}{}
		if calls.Add(1) == 1 {
			<-r.Context().Done() // the process that has asked gives up
			canceled <- struct{}{}
			return
		}
		io.WriteString(w, `{"result": {"user": "u7", "channels": ["news"]}}`) // ignored: the client is refused then
	}))
	defer b.Close()
	l := startLineage(t, "--connect-hook", b.URL, "--publish-hook", b.URL, "--hook-timeout", "1m")
	for _, path := range []string{"/ws/news?format=json", "/sse/news"} {
		calls.Store(0)
		answered := make(chan error, 1)
		go func() {
			if strings.HasPrefix(path, "/sse") {
				resp, err := http.Get(l.url + path)
				if err == nil {
					resp.Body.Close()
					if resp.StatusCode != http.StatusOK {
						err = fmt.Errorf("status %d", resp.StatusCode)
					}
				}
				answered <- err
				return
			}
			conn, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(l.url, "http")+path, nil)
			if err == nil {
				conn.Close()
			}
			answered <- err
		}()
		<-asked
		if r := l.upgrade(); r.Moved < 1 {
			t.Errorf("%s: %d connections were moved", path, r.Moved)
		}
		for what, c := range map[string]<-chan struct{}{"the new process asks again": asked, "the old call is canceled": canceled} {
			select {
			case <-c:
			case <-time.After(clitest.Patience):
				t.Fatalf("%s: not so: %s", path, what)
			}
		}
		if err := <-answered; err != nil {
			t.Errorf("%s: the client: %v", path, err)
		}
	}
}
