package gateway

import (
	"encoding/json"
	"net/http"
	"net/netip"
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
		return got.Delivered >= 4
	})
	if got.Version != "v1" || got.Time == 0 || got.Uptime <= 0 || got.Connections != 2 || got.Published != 2 || got.Delivered != 4 {
		t.Errorf("got %+v, want 2 connections, 2 messages published and 4 delivered", got)
	}
	if m := got.Memory; m.Process < 1<<20 || m.Fixed < 1<<20 || m.PerConnection != nil {
		t.Errorf("got memory %+v, want that of the process", m)
	}
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
