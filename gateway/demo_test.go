package gateway

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"sluice/gateway/clienttest"
	page "sluice/gateway/web"
)

// asPage is the head of the page's own request.
func asPage(method, path, host string) string {
	return method + " " + path + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: keep-alive\r\nSec-Fetch-Site: same-origin\r\nContent-Length: 0\r\n\r\n"
}

func TestNumbersOfThePageAreTheGateways(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Version: "v1"})
	a, b := clienttest.Dial(t, s, "/ws/x"), clienttest.Dial(t, s, "/ws/x")
	a.Send(clienttest.Text("hello"))
	a.WantText("its own message", "hello")
	b.WantText("the message", "hello")
	s.publish("x", "from outside")
	a.WantText("the second", "from outside")
	b.WantText("the second", "from outside")
	var got page.Numbers
	clienttest.WaitFor(t, "all deliveries to be counted", func() bool {
		c := clienttest.Connect(t, s)
		c.Write(asPage("GET", "/demo/numbers", "127.0.0.1"))
		if err := json.Unmarshal([]byte(c.WantStatus("numbers", http.StatusOK).Body), &got); err != nil {
			t.Fatal(err)
		}
		return got.Delivered >= 4 && sum(got.Latency.Counts) > 0
	})
	if got.Version != "v1" || got.Time == 0 || got.Uptime <= 0 || got.Connections != 2 || got.Published != 2 || got.Delivered != 4 {
		t.Errorf("got %+v, want 2 connections, 2 messages published and 4 delivered", got)
	}
	if l := got.Latency; len(l.Bounds) == 0 || len(l.Counts) != len(l.Bounds)+1 || sum(l.Counts) == 0 {
		t.Errorf("got latency %+v, want that of two sweeps or more", l)
	}
	if m := got.Memory; m.Process < 1<<20 || m.Fixed < 1<<20 || m.PerConnection != nil {
		t.Errorf("got memory %+v, want that of the process", m)
	}
}

func sum(counts []uint64) (n uint64) {
	for _, c := range counts {
		n += c
	}
	return n
}

// With any of these settings nobody has the demo: its paths are like all that there are not.
func TestWithoutTheDemoItsPathsAreUnknown(t *testing.T) {
	t.Parallel()
	local := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	for name, cfg := range map[string]Config{
		"off": {Demo: DemoOff}, "no page": {NoPage: true}, "files": {WebRoot: t.TempDir()}, "proxies": {TrustedProxies: local}, "PROXY header": {ProxyProtocol: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
	} {
		s := start(t, cfg)
		answers := map[string]clienttest.Answer{}
		for _, path := range []string{"/demo/numbers", "/demo/unknown"} {
			c := clienttest.Connect(t, s)
			c.Write(asPage("GET", path, "localhost"))
			answers[path] = c.WantStatus(name, http.StatusNotFound)
		}
		if got, want := answers["/demo/numbers"].Body, answers["/demo/unknown"].Body; got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestThePageSaysWhetherItCanBringVisitors(t *testing.T) {
	t.Parallel()
	process := func() (io.ReadWriteCloser, error) { return nil, errors.New("too many processes") }
	for name, test := range map[string]struct {
		cfg  Config
		want page.Available
	}{
		"usually":            {Config{Visitors: process}, page.Available{Available: true, Most: 1000}},
		"few connections":    {Config{Visitors: process, MaxConnections: 300}, page.Available{Available: true, Most: 300}},
		"few of an address":  {Config{Visitors: process, MaxPerAddress: 50}, page.Available{Available: true, Most: 50}},
		"a program without":  {Config{}, page.Available{Reason: "This program brings no visitors."}},
		"no raw connections": {Config{Visitors: process, Raw: RawOff}, page.Available{Reason: "Visitors need raw WebSocket, which Raw turns off."}},
	} {
		s := start(t, test.cfg)
		c := clienttest.Connect(t, s)
		c.Write(asPage("GET", "/demo/numbers", "127.0.0.1"))
		var got page.Numbers
		if err := json.Unmarshal([]byte(c.WantStatus(name, http.StatusOK).Body), &got); err != nil || got.Visitors != test.want {
			t.Errorf("%s: got %+v, %v, want %+v", name, got.Visitors, err, test.want)
		}
	}
}

func TestWhyVisitorsCannotBeStartedIsLogged(t *testing.T) {
	t.Parallel()
	var log clienttest.Records
	s := start(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), Visitors: func() (io.ReadWriteCloser, error) { return nil, errors.New("too many processes") }})
	c := clienttest.Connect(t, s)
	c.Write(strings.Replace(asPage("POST", "/demo/visitors", "127.0.0.1"), "Content-Length: 0\r\n\r\n", "Content-Length: 11\r\n\r\n{\"count\":1}", 1))
	if got := c.WantStatus("no process", http.StatusServiceUnavailable).Body; strings.Contains(got, "too many") {
		t.Errorf("the page gets %q", got)
	}
	if !strings.Contains(log.Text(), `error="too many processes"`) {
		t.Errorf("the log has %q", log.Text())
	}
}
