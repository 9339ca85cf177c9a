package client

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/cmd/internal/clitest"

	"github.com/gobwas/ws"
)

func TestChannelAddress(t *testing.T) {
	for _, tc := range []struct{ url, channel, want string }{
		{"ws://127.0.0.1:8000", "news", "ws://127.0.0.1:8000/ws/news?echo=off"},
		{"http://h/", "news", "ws://h/ws/news?echo=off"},
		{"HTTPS://h", "news", "wss://h/ws/news?echo=off"},
		{"wss://h/prefix/", "news", "wss://h/prefix/ws/news?echo=off"},
		{"ws://h/a%2Fb/", "c/d?e#f%", "ws://h/a%2Fb/ws/c%2Fd%3Fe%23f%25?echo=off"},
		{"ws://[::1]:8000/?token=x&echo=on", "比分", "ws://[::1]:8000/ws/%E6%AF%94%E5%88%86?echo=off&token=x"},
		{"ws://h/p", "..", "ws://h/p/ws?channel=..&echo=off"},
	} {
		flags := clientFlags{url: tc.url, timeout: time.Second}
		target, err := flags.target(tc.channel)
		if err != nil {
			t.Errorf("%s: %v", tc.url, err)
			continue
		}
		if got := target.url(map[string][]string{"echo": {"off"}}); got != tc.want {
			t.Errorf("%s of %s: got %s, want %s", tc.channel, tc.url, got, tc.want)
		}
	}
}

func TestClientUsageErrors(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("nothing\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"pub"}, "missing channel"},
		{[]string{"pub", "", "x"}, "the channel name is empty"},
		{[]string{"pub", "news", "a", "b"}, `unexpected argument "b"`},
		{[]string{"sub"}, "missing channel"},
		{[]string{"sub", "news", "more"}, `unexpected argument "more"`},
		{[]string{"sub", "news", "--since", "e1:1", "--history", "2"}, "cannot be combined"},
		{[]string{"sub", "news", "--since", "then"}, "--since then: must be EPOCH:OFFSET"},
		{[]string{"sub", "news", "--since", "now", "--history", "2"}, "cannot be combined"},
		{[]string{"sub", "news", "--count", "0"}, "--count 0: must be at least 1"},
		{[]string{"sub", "news", "--retry", "-1s"}, "--retry -1s: must be a time"},
		{[]string{"pub", "news", "--max-line", "0"}, "--max-line 0: must be greater than 0"},
		{[]string{"pub", "news", "--timeout", "0s"}, "--timeout 0s: must be greater than 0"},
		{[]string{"pub", "news", "--url", "127.0.0.1:8000"}, "--url 127.0.0.1:8000: not a ws, wss, http or https URL; use one such as ws://127.0.0.1:8000"},
		{[]string{"pub", "news", "--url", "push.example.com"}, "--url push.example.com: not a ws, wss, http or https URL; use one such as"},
		{[]string{"pub", "news", "--url", "ftp://h"}, "--url ftp://h: not a ws, wss, http or https URL; use one such as"},
		{[]string{"pub", "news", "--url", "ws://"}, "missing host"},
		{[]string{"pub", "news", "--url", "ws://a:b@h"}, "use --header"},
		{[]string{"pub", "news", "--url", "ws://h/#x"}, "after #"},
		{[]string{"pub", "news", "--header", "nothing"}, "must have the form"},
		{[]string{"pub", "news", "--header", "A b: c"}, "must have the form"},
		{[]string{"pub", "news", "--header", "A: b\r\nC: d"}, "control character"},
		{[]string{"pub", "news", "--header", "upgrade: x"}, "belongs to the WebSocket upgrade"},
		{[]string{"pub", "news", "--cacert", "/nonexistent.pem"}, "--cacert /nonexistent.pem: no such file"},
		{[]string{"pub", "news", "--cacert", empty}, "contains no certificate"},
		{[]string{"sub", "news", "--cert", empty}, "--cert " + empty + " needs --key: add the file with its private key"},
		{[]string{"sub", "news", "--key", empty}, "--key " + empty + " needs --cert"},
		{[]string{"pub", "news", "--cert", "/nonexistent.pem", "--key", empty}, "--cert /nonexistent.pem: no such file"},
		{[]string{"pub", "news", "--cert", empty, "--key", "/nonexistent.pem"}, "--key /nonexistent.pem: no such file"},
		{[]string{"pub", "news", "x", "--cert", empty, "--key", empty}, "--cert " + empty + " and --key " + empty + ": failed to find any PEM data"},
		{[]string{"sub", "news", "--cacert", empty}, "contains no certificate"},
	} {
		c := clitest.Start(t, commands(), strings.NewReader(""), tc.args...)
		c.WantExit(2, tc.want)
	}
}

func TestClientHelp(t *testing.T) {
	for _, name := range []string{"pub", "sub"} {
		code, help, _ := clitest.Run(commands(), "", name, "--help")
		if code != 0 || strings.Count(help, "sluice "+name) != 3 || !strings.Contains(help, "SLUICE_URL") {
			t.Errorf("exit code %d, help of %s without two examples, its use and SLUICE_URL:\n%s", code, name, help)
		}
		for line := range strings.Lines(help) {
			if len(strings.TrimRight(line, "\n")) > 80 {
				t.Errorf("%s: longer than 80 columns: %s", name, line)
			}
		}
	}
}

func TestClientSendsItsHeaders(t *testing.T) {
	g := newFakeGateway(t, func(c *fakeConn) {
		if got := c.head.Get("Authorization"); got != "Bearer a, b: c" {
			t.Errorf("Authorization: %q", got)
		}
		c.confirm()
	})
	pub := clitest.Start(t, commands(), nil, "pub", "news", "x", "--url", g.url, "--header", "authorization: Bearer a, b: c", "--header", "Host: example.com")
	pub.WantExit(0)
}

func TestClientTellsARefusal(t *testing.T) {
	for _, tc := range []struct {
		status int
		body   string
		want   string
	}{
		{400, "The channel's name has white space.\n", "refused with 400 Bad Request (The channel's name has white space)\n"},
		{403, "The origin is foreign\x1b[2J.", "refused with 403 Forbidden (The origin is foreign[2J); "},
		{404, "", "refused with 404 Not Found; check the channel, and that --url is the gateway's address without /ws"},
		{401, `{"error":{"message":"API key required by the edge proxy"}}`, "refused with 401 Unauthorized (API key required by the edge proxy); "},
		{503, "Too many\nconnections", "refused with 503 Service Unavailable (Too many connections); try again later"},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tc.status)
			io.WriteString(w, tc.body)
		}))
		sub := clitest.Start(t, commands(), nil, "sub", "news", "--url", s.URL)
		sub.WantExit(1, "sluice: connect to ws://"+strings.TrimPrefix(s.URL, "http://")+": "+tc.want)
		s.Close()
	}
}

func TestClientOverTLS(t *testing.T) {
	g := newFakeGateway(t, func(c *fakeConn) {
		c.send(ws.OpPing, "hello") // comes with the upgrade
		c.confirm()
	})
	proxy, certificate := clitest.TLSProxy(t, g.l.Addr().String())
	for _, tc := range []struct {
		args []string
		code int
		says []string
	}{
		{[]string{"--cacert", certificate}, 0, nil},
		{[]string{"--insecure-skip-verify"}, 0, nil},
		{nil, 1, []string{"the server's certificate is not trusted", "--cacert", "--insecure-skip-verify"}},
	} {
		pub := clitest.Start(t, commands(), nil, append([]string{"pub", "news", "x", "--url", "https://" + proxy}, tc.args...)...)
		pub.WantExit(tc.code, tc.says...)
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	pub := clitest.Start(t, commands(), nil, "pub", "news", "x", "--url", "wss://"+plain.Listener.Addr().String())
	pub.WantExit(1, "the server does not speak TLS")
	encrypted := httptest.NewTLSServer(http.NotFoundHandler())
	encrypted.Config.ErrorLog = log.New(io.Discard, "", 0) // it logs the failed handshake
	defer encrypted.Close()
	pub = clitest.Start(t, commands(), nil, "pub", "news", "x", "--url", "ws://"+encrypted.Listener.Addr().String())
	pub.WantExit(1, "wss://")
}

func TestErrorsNameNoToken(t *testing.T) {
	for given, want := range map[string]string{
		"ws://127.0.0.1:8000?token=secret&x=1": "ws://127.0.0.1:8000?token=...&x=1",
		"wss://u:p@host/path":                  "wss://u:xxxxx@host/path",
		"ws://127.0.0.1:8000":                  "ws://127.0.0.1:8000",
	} {
		base, err := url.Parse(given)
		if err != nil {
			t.Fatal(err)
		}
		if got := (&target{base: base}).name(); got != want {
			t.Errorf("%s: got %s, want %s", given, got, want)
		}
	}
}
