package deploy_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws/wsutil"

	"sluice/bench/child"
)

// events opens an event stream and returns its lines; they end with it.
func events(t *testing.T, address, path string) <-chan string {
	t.Helper()
	lines, _ := eventsOver(t, &http.Transport{DisableKeepAlives: true, ResponseHeaderTimeout: patience}, "http://"+address+path)
	return lines
}

// eventsOver does the same with a transport, and returns the protocol of the answer. The transport
// has a ResponseHeaderTimeout, because a proxy may hold back the head as well.
func eventsOver(t *testing.T, transport *http.Transport, url string) (stream <-chan string, protocol string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return linesOf(t, transport, req)
}

// linesOf does the same with any request.
func linesOf(t *testing.T, transport *http.Transport, req *http.Request) (stream <-chan string, protocol string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	req = req.WithContext(ctx)
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		t.Fatalf("%s: %s", req.URL, resp.Status)
	}
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		defer resp.Body.Close()
		for scan := bufio.NewScanner(resp.Body); scan.Scan(); {
			select {
			case lines <- scan.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	return lines, resp.Proto
}

// wantLine waits for a line that begins so.
func wantLine(t *testing.T, lines <-chan string, prefix string) {
	t.Helper()
	end := time.After(patience)
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				t.Fatalf("the stream has ended before %q", prefix)
			}
			if strings.HasPrefix(line, prefix) {
				return
			}
		case <-end:
			t.Fatalf("no line %q within %v", prefix, patience)
		}
	}
}

func TestProxyHandsEventsOnAtOnce(t *testing.T) {
	each(t, func(t *testing.T, p proxy) {
		g := serve(t)
		lines := events(t, p.start(t, g, ""), "/sse/news")
		wantLine(t, lines, "id: ")
		for _, message := range []string{"one", "two", "three"} {
			publish(t, g, "news", message)
			wantLine(t, lines, "data: "+message) // none fills a buffer
		}
	})
}

// An SDK without WebSocket is sent lines, and sends its commands in requests.
func TestProxyPassesEmulatedClientsOn(t *testing.T) {
	each(t, func(t *testing.T, p proxy) {
		g := serve(t)
		base := "http://" + p.start(t, g, "")
		transport := &http.Transport{ResponseHeaderTimeout: patience}
		t.Cleanup(transport.CloseIdleConnections)
		req, err := http.NewRequest(http.MethodPost, base+"/connection/http_stream", strings.NewReader(`{"id":1,"connect":{}}`))
		if err != nil {
			t.Fatal(err)
		}
		lines, _ := linesOf(t, transport, req)
		var r struct {
			Connect struct{ Session, Node string } `json:"connect"`
		}
		select {
		case line := <-lines:
			if err := json.Unmarshal([]byte(line), &r); err != nil || r.Connect.Session == "" {
				t.Fatalf("connect: %s, %v", line, err)
			}
		case <-time.After(patience):
			t.Fatal("no reply to connect")
		}
		sends := func(command string) {
			t.Helper()
			body, _ := json.Marshal(map[string]string{"session": r.Connect.Session, "node": r.Connect.Node, "data": command}) // cannot fail
			resp, err := (&http.Client{Transport: transport, Timeout: patience}).Post(base+"/emulation", "application/json", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusNoContent {
				t.Fatalf("%s: %s", command, resp.Status)
			}
		}
		sends(`{"id":2,"subscribe":{"channel":"news"}}`)
		wantLine(t, lines, `{"id":2,"subscribe":`)
		for i, message := range []string{"one", "two", "three"} {
			publish(t, g, "news", message)
			wantLine(t, lines, `{"push":{"channel":"news","pub":{"data":"`+message+`"`) // none fills a buffer
			sends(fmt.Sprintf(`{"id":%d,"ping":{}}`, i+3))
			wantLine(t, lines, fmt.Sprintf(`{"id":%d,"ping":{}}`, i+3))
		}
	})
}

// silentPair is one WebSocket and one event stream through one proxy, on which the
// gateway and the client have nothing to say.
type silentPair struct {
	name      string
	wantCut   bool
	installed bool
	gateway   *child.Process
	conn      net.Conn
	broken    chan error // what reading the WebSocket ended with
	lines     <-chan string
}

// Silence that is longer than the proxy's time is survived because the gateway pings,
// and only because of that. All pairs are silent at the same time.
func TestProxyKeepsSilentConnectionsOnlyByPings(t *testing.T) {
	t.Parallel()
	const idle = 3 * time.Second // what takes the place of the files' 75s; pings come every second
	var pairs []*silentPair
	for _, p := range proxies {
		for _, pings := range []bool{true, false} {
			pair := &silentPair{name: p.file + "/pings", broken: make(chan error, 1)}
			interval := "1s"
			if !pings {
				pair.name, interval = p.file+"/no pings", "off"
				pair.wantCut = p.idle != ""
			}
			pairs = append(pairs, pair)
			if _, err := exec.LookPath(p.name); err != nil {
				continue
			}
			pair.installed = true
			pair.gateway = serve(t, "--ping-interval", interval)
			address := p.start(t, pair.gateway, idle.String())
			c, err := connect(address, "/echo", "", "")
			if err != nil {
				t.Fatalf("%s: %v", pair.name, err)
			}
			defer c.Close()
			pair.conn = c
			go func() { // at once: the gateway does not wait for a pong until all pairs are there
				_, err := wsutil.ReadServerText(pair.conn)
				pair.broken <- err
			}()
			pair.lines = events(t, address, "/sse/news")
			wantLine(t, pair.lines, "id: ")
		}
	}
	for _, pair := range pairs {
		if pair.installed {
			pair.conn.SetReadDeadline(time.Now().Add(2 * idle)) // ignored: then reading fails
		}
	}
	<-time.After(2 * idle) // the silence is the test
	for _, pair := range pairs {
		t.Run(pair.name, func(t *testing.T) {
			if !pair.installed {
				t.Skipf("no %s on this machine: .ci/run installs it", pair.name)
			}
			pair.check(t)
		})
	}
}

// check says whether the silence was survived.
func (pair *silentPair) check(t *testing.T) {
	err := <-pair.broken
	if cut := !errors.Is(err, os.ErrDeadlineExceeded); cut != pair.wantCut {
		t.Errorf("WebSocket cut: %v (%v), want %v", cut, err, pair.wantCut)
	} else if !cut {
		if err := echo(pair.conn, "still there"); err != nil {
			t.Errorf("WebSocket after the silence: %v", err)
		}
	}
	if pair.wantCut {
		for end := time.After(patience); ; {
			select {
			case line, more := <-pair.lines:
				if !more {
					return
				}
				if line != "" && !strings.HasPrefix(line, ":") {
					t.Errorf("event stream: line %q, want silence", line)
				}
			case <-end:
				t.Fatal("the event stream goes on, want it cut")
			}
		}
	}
	publish(t, pair.gateway, "news", "still there")
	wantLine(t, pair.lines, "data: still there")
}
