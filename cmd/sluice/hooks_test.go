package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/clitest"
)

// askedBackend is an application's backend, which notes what it is asked.
type askedBackend struct {
	*httptest.Server
	answer func(path, body string) string

	mu    sync.Mutex
	asked []string
}

func newBackend(t *testing.T, answer func(path, body string) string) *askedBackend {
	b := &askedBackend{answer: answer}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // ignored: what is missing is seen
		b.mu.Lock()
		b.asked = append(b.asked, r.URL.Path+" "+r.Header.Get("Cookie"))
		b.mu.Unlock()
		io.WriteString(w, b.answer(r.URL.Path, string(body))) // ignored: likewise
	}))
	t.Cleanup(b.Close)
	return b
}

func (b *askedBackend) want(t *testing.T, asked ...string) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if diff := cmp.Diff(asked, b.asked); diff != "" {
		t.Error(diff)
	}
	b.asked = nil
}

// Hooks given by flags decide about every channel, and what they did is in the metrics and, if they fail, in the log.
func TestHooksDecide(t *testing.T) {
	b := newBackend(t, func(path, body string) string {
		switch {
		case path == "/connect":
			return `{"result": {"user": "u7"}}`
		case path == "/publish" && strings.Contains(body, "rude"):
			return `{"error": {"code": 400, "message": "mind your language"}}`
		case path == "/publish":
			return `{"result": {"data": "polite"}}`
		}
		return `{}`
	})
	s := startHere(t, "--connect-hook", b.URL+"/connect", "--subscribe-hook", b.URL+"/subscribe", "--publish-hook", b.URL+"/publish", "--hook-headers", "Cookie")
	if raw := s.log.wait(t, "ready")["raw"]; raw != "by hooks" {
		t.Errorf("raw clients may publish %v", raw)
	}
	conn, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(s.url, "http")+"/ws/news?format=json", http.Header{"Cookie": {"sid=1"}, "X-User": {"root"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for text, want := range map[string]string{`"hello"`: "polite", `"rude"`: "mind your language"} {
		if err := conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := conn.ReadMessage(); err != nil || !strings.Contains(string(got), want) {
			t.Errorf("%s: %q, %v; want %q", text, got, err, want)
		}
	}
	b.want(t, "/connect sid=1", "/subscribe sid=1", "/publish sid=1", "/publish sid=1")

	b.Close()
	if _, resp, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(s.url, "http")+"/ws/news", nil); err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("without a backend: %v, %+v", err, resp)
	}
	r := s.log.wait(t, "hook failed")
	if text := fmt.Sprint(r["error"]); r["outcome"] != "refused" || r["hook"] != "connect hook: "+b.URL+"/connect" || !strings.HasPrefix(text, "connect hook: "+b.URL+"/connect: ") {
		t.Errorf("the log has %v", r)
	}
	metrics := get(t, s.internal+"/metrics")
	for _, want := range []string{
		`sluice_hook_calls_total{name="default",outcome="ok",type="connect"} 1`,
		`sluice_hook_calls_total{name="default",outcome="refused",type="connect"} 1`,
		`sluice_hook_calls_total{name="default",outcome="error",type="publish"} 1`,
		`sluice_hook_duration_seconds_count{name="default",type="subscribe"} 1`,
		`sluice_hook_timeout_seconds{name="default",type="publish"} 1`,
		`sluice_hook_inflight{name="default",type="connect"} 0`,
		`sluice_hook_queued{name="default",type="connect"} 0`,
		`sluice_hook_breaker_open{name="default",type="connect"} 0`,
	} {
		if !slices.Contains(strings.Split(metrics, "\n"), want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	conn.Close() // ignored: else stopping waits for it
	s.stop()
}

// A backend that hangs does not keep the gateway from stopping, and its calls are canceled.
func TestStopDoesNotWaitForHooks(t *testing.T) {
	asked, canceled := make(chan struct{}), make(chan struct{})
	b := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // ignored: the server watches the connection from here on
		close(asked)
		<-r.Context().Done()
		close(canceled)
	}))
	defer b.Close()
	s := startHere(t, "--connect-hook", b.URL, "--hook-timeout", "1m", "--drain-duration", "off")
	ctx, cancel := context.WithTimeout(context.Background(), clitest.Patience)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		conn, _, err := websocket.DefaultDialer.DialContext(ctx, "ws"+strings.TrimPrefix(s.url, "http")+"/ws/news", nil)
		if err == nil {
			_, _, err = conn.ReadMessage()
			conn.Close()
		}
		ended <- err
	}()
	<-asked
	s.stop()
	select {
	case <-canceled:
	case <-ctx.Done():
		t.Error("the call goes on")
	}
	if err := <-ended; !websocket.IsCloseError(err, websocket.CloseGoingAway) {
		t.Errorf("the client that waits: %v, want that it is told to come back", err)
	}
}

// The hooks file and the namespaces file select each other.
func TestHooksOfNamespaces(t *testing.T) {
	b := newBackend(t, func(_, body string) string {
		if strings.Contains(body, `"channel":"chat:no"`) {
			return `{"error": {"code": 403, "message": "not here"}}`
		}
		return `{"result": {}}`
	})
	hooks := clitest.WriteFile(t, "hooks.json", fmt.Sprintf(`{"proxies": [{"name": "rooms", "endpoint": "%s/rooms"}]}`, b.URL))
	namespaces := clitest.WriteFile(t, "channels.json", `{"without_namespace": {"allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true},
		"namespaces": [{"name": "chat", "subscribe_proxy_enabled": true, "subscribe_proxy_name": "rooms"}]}`)
	s := startHere(t, "--hooks", hooks, "--namespaces", namespaces)
	for _, path := range []string{"/ws/news", "/ws/chat:yes"} {
		dial(t, s, path).conn.Close() // ignored: else stopping waits for it
	}
	if _, resp, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(s.url, "http")+"/ws/chat:no", nil); err == nil || resp == nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("chat:no: %v, %+v", err, resp)
	}
	b.want(t, "/rooms ", "/rooms ")
	s.stop()
}

// Each mistake is one fault, which names the option, and the file or the variable that it is in.
func TestCheckTellsMistakesAboutHooks(t *testing.T) {
	const url = "http://127.0.0.1:1/hook"
	file := func(text string) string { return clitest.WriteFile(t, "hooks.json", text) }
	connect := file(`{"client": {"proxy": {"connect": {"enabled": true, "endpoint": "` + url + `", "http_headers": ["Cookie"]}}}}`)
	named := file(`{"proxies": [{"name": "rooms", "endpoint": "` + url + `"}]}`)
	typo := file(`{"clients": {}, "channel": {"proxy": {"subscribe": {"endpoint": "grpc://127.0.0.1:1", "timeout": 1}}}}`)
	namespaces := clitest.WriteFile(t, "channels.json", `{"namespaces": [{"name": "chat", "subscribe_proxy_enabled": true, "subscribe_proxy_name": "room"}]}`)
	for _, test := range []struct {
		env, args []string
		want      []string // what lines begin with
	}{
		{nil, []string{"--connect-hook", "127.0.0.1:3000"}, []string{"--connect-hook: it is not an http:// or https:// URL"}},
		{[]string{"SLUICE_CONNECT_HOOK=grpc://u:secret@127.0.0.1:3000"}, nil, []string{"--connect-hook: a gRPC endpoint is not supported; use the same hook over HTTP, with http:// or https:// (set by SLUICE_CONNECT_HOOK)"}},
		{nil, []string{"--subscribe-hook", "http://169.254.169.254/"}, []string{"--subscribe-hook: 169.254.169.254 is an address at which clouds serve credentials"}},
		{nil, []string{"--connect-hook", url, "--hook-timeout", "2m"}, []string{"--hook-timeout: 2m0s is more than 1m0s"}},
		{nil, []string{"--hook-timeout", "2s"}, []string{"--hook-timeout: there is no hook that it is for; "}},
		{nil, []string{"--hook-queue", "5"}, []string{"--hook-queue 5: there is no hook that it is for; "}},
		{nil, []string{"--hooks", named, "--hook-timeout", "2s", "--namespaces", namespaces}, []string{"--hook-timeout: there is no hook that it is for; "}},
		{nil, []string{"--connect-hook", url, "--hook-max-in-flight", "10001"}, []string{"--hook-max-in-flight 10001 is too large: use at most 10000"}},
		{nil, []string{"--hook-headers", "Cookie"}, []string{"--hook-headers: there is no hook to send headers to; "}},
		{nil, []string{"--connect-hook", url, "--hook-headers", "Host,Coo kie"}, []string{`--hook-headers: "Host" is a header of the call itself`, `--hook-headers: "Coo kie" is not a name of a header`}},
		{nil, []string{"--connect-hook", url, "--hook-headers", "cookie", "--allowed-origins", "*"}, []string{"--connect-hook: Cookie is passed on, and an origin pattern is \"*\": "}},
		{nil, []string{"--connect-hook", url, "--hook-headers", "cookie", "--allowed-origins", "https://app.example.com,null"}, []string{"--connect-hook: Cookie is passed on, and an origin pattern is \"null\": "}},
		{nil, []string{"--connect-hook", url, "--insecure"}, []string{"--connect-hook: it has no effect with --insecure"}},
		{nil, []string{"--hooks", "/no/such/file"}, []string{"--hooks /no/such/file: no such file or directory; use a JSON file"}},
		{nil, []string{"--hooks", typo}, []string{
			"--hooks " + typo + `: clients: the key is unknown: did you mean "client"?`,
			"--hooks " + typo + `: channel.proxy.subscribe.endpoint: a gRPC endpoint is not supported; `,
			"--hooks " + typo + `: channel.proxy.subscribe.timeout: a number has no unit; `,
		}},
		{nil, []string{"--hooks", connect, "--connect-hook", url}, []string{"--connect-hook: the hooks file has client.proxy.connect too; remove one of them"}},
		{nil, []string{"--hooks", connect, "--insecure"}, []string{"--hooks " + connect + ": client.proxy.connect: it has no effect with --insecure"}},
		{[]string{"SLUICE_HOOKS=" + named}, nil, []string{"--hooks " + named + ": proxies[0]: no namespace uses this hook; select it in one, or remove it (set by SLUICE_HOOKS)"}},
		{nil, []string{"--hooks", named, "--namespaces", namespaces}, []string{
			"--namespaces " + namespaces + `: namespace "chat": subscribe_proxy_name: there is no hook with the name "room"; did you mean "rooms"?`,
			"--hooks " + named + ": proxies[0]: no namespace uses this hook",
		}},
		{nil, []string{"--namespaces", namespaces}, []string{"--namespaces " + namespaces + `: namespace "chat": subscribe_proxy_name: there is no hook with the name "room"; `}},
		{nil, []string{"--subscribe-hook", url, "--namespaces", clitest.WriteFile(t, "n.json", "{}")}, []string{"--subscribe-hook: no namespace uses this hook; "}},
	} {
		var got []string
		for _, line := range runCheck(t, cli.ExitFailed, test.env, append(slices.Clone(freePorts), test.args...)...) {
			if fault, ok := strings.CutPrefix(line, "fault "); ok {
				got = append(got, fault)
			}
			if strings.Contains(line, "secret") {
				t.Errorf("%v: a password is in %q", test.env, line)
			}
		}
		if !slices.EqualFunc(got, test.want, strings.HasPrefix) {
			t.Errorf("check %v %v: got %q, want %q", test.env, test.args, got, test.want)
		}
	}
}

// check connects to backends as the gateway does: one that is away, or whose certificate is not trusted, is a warning.
func TestCheckConnectsToBackends(t *testing.T) {
	there := newBackend(t, func(string, string) string { return "{}" })
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // it would log that the handshake fails
	secure.StartTLS()
	defer secure.Close()
	hooks := clitest.WriteFile(t, "hooks.json", fmt.Sprintf(`{"channel": {"proxy": {
		"subscribe": {"endpoint": "https://u:secret@%s/s?key=secret", "http_headers": ["X-User", "X-Key"], "emulated_headers": ["x-user"], "http": {"static_headers": {"x-key": "secret"}}},
		"publish": {"endpoint": "http://127.0.0.1:1/p"}}}}`, secure.Listener.Addr()))
	if err := os.Chmod(hooks, 0o644); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, line := range runCheck(t, 0, nil, append(slices.Clone(freePorts), "--connect-hook", there.URL+"/connect", "--hooks", hooks)...) {
		if strings.Contains(line, "hook") {
			got = append(got, line)
		}
		if strings.Contains(line, "secret") && !strings.Contains(line, "read the secrets") {
			t.Errorf("a secret is in %q", line)
		}
	}
	want := []string{
		"warning --hooks " + hooks + ": channel.proxy.subscribe: x-key is a static header and is also passed on: a client can replace it; remove it from one of them",
		"warning --hooks " + hooks + ": channel.proxy.subscribe: x-user is among the headers of the request and among those that a client can write itself: ",
		"warning --hooks " + hooks + ": every user of this machine can read the secrets in it; ",
		"ok permissions: from hooks",
		"ok --connect-hook " + there.URL + "/connect: can be reached",
		"warning hooks: channel.proxy.publish: http://127.0.0.1:1/p: cannot be reached: connection refused; while it is away, clients are asked to try again",
		"warning hooks: channel.proxy.subscribe: https://" + secure.Listener.Addr().String() + "/s: cannot be reached: tls: failed to verify certificate: x509: ",
	}
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("%s", cmp.Diff(want, got))
	}
}

// waitMetric waits until the metrics have a line.
func waitMetric(t *testing.T, s *sluice, line string) {
	t.Helper()
	for end := time.Now().Add(clitest.Patience); ; time.Sleep(10 * time.Millisecond) {
		if slices.Contains(strings.Split(get(t, s.internal+"/metrics"), "\n"), line) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the metrics never have %s", line)
		}
	}
}

// One request is at the backend, one waits, and the third client is asked to try again.
func TestBoundsOfHooks(t *testing.T) {
	asked, free := make(chan struct{}, 3), make(chan struct{})
	b := newBackend(t, func(string, string) string {
		asked <- struct{}{}
		<-free
		return `{"result": {}}`
	})
	freeAll := sync.OnceFunc(func() { close(free) })
	defer freeAll() // before the backend waits for its requests
	hooks := clitest.WriteFile(t, "hooks.json", fmt.Sprintf(`{"channel": {"proxy": {"subscribe": {"endpoint": "%s", "timeout": "1m", "queue_timeout": "1m"}}}}`, b.URL))
	s := startHere(t, "--hooks", hooks, "--hook-max-in-flight", "1", "--hook-queue", "1")
	url := "ws" + strings.TrimPrefix(s.url, "http") + "/ws/news"
	joined := make(chan error, 2)
	join := func() {
		conn, _, err := websocket.DefaultDialer.Dial(url, nil)
		if err == nil {
			conn.Close() // ignored: else stopping waits for it
		}
		joined <- err
	}
	go join()
	<-asked
	go join()
	waitMetric(t, s, `sluice_hook_queued{name="default",type="subscribe"} 1`)
	_, resp, err := websocket.DefaultDialer.Dial(url, nil)
	if err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the third client: %v, %+v", err, resp)
	}
	if r := s.log.wait(t, "hook failed"); r["outcome"] != "overload" || !strings.Contains(fmt.Sprint(r["error"]), "1 run at a time, and others wait for 1m0s at most") {
		t.Errorf("the log has %v", r)
	}
	freeAll()
	for range 2 {
		if err := <-joined; err != nil {
			t.Error(err)
		}
	}
	s.stop()
}

// Connections to backends end with the gateway, and warnings are in its log.
func TestHooksEndWithTheGateway(t *testing.T) {
	b := newBackend(t, func(string, string) string { return "{}" })
	_, port, err := net.SplitHostPort(b.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	hooks := clitest.WriteFile(t, "hooks.json", fmt.Sprintf(`{"channel": {"proxy": {"subscribe": {"endpoint": "%s", "http_headers": ["X-User"], "emulated_headers": ["X-User"]}}}}`, b.URL))
	s := startHere(t, "--hooks", hooks)
	s.log.wait(t, "--hooks "+hooks+": channel.proxy.subscribe: X-User is among the headers of the request and among those that a client can write itself: a client that does not send the first can forge it; remove it from one of them")
	dial(t, s, "/ws/news").conn.Close() // ignored: else stopping waits for it
	s.stop()
	if n := connectionsTo(t, port); n > 0 {
		t.Errorf("%d connections to the backend are left", n)
	}
}

// connectionsTo returns how many connections to a local port this side has not closed.
func connectionsTo(t *testing.T, port string) (n int) {
	t.Helper()
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	const established, closeWait = "01", "08"
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line) // number, local address, remote address, state
		if len(f) > 3 && strings.HasSuffix(f[2], fmt.Sprintf(":%04X", number)) && (f[3] == established || f[3] == closeWait) {
			n++
		}
	}
	return n
}
