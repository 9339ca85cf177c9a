package deploy_test

import (
	"bufio"
	"context"
	"errors"
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
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		t.Fatalf("%s: %s", url, resp.Status)
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
