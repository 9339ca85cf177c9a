package child

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"sluice/poller/leaktest"

	"github.com/google/go-cmp/cmp"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// shell starts a shell script in place of a gateway.
func shell(t *testing.T, script string) *Process {
	t.Helper()
	p, err := Start(exec.Command("sh", "-c", script))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func TestReadyReadsWhereAGatewayListens(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" {
			http.Error(w, "not here", http.StatusNotFound)
			return
		}
		fmt.Fprint(w, "# TYPE a counter\na{k=\"x\",loop=\"0\"} 1\na{k=\"x\",loop=\"1\"} 2\na{k=\"y\",loop=\"0\"} 4\n# TYPE b gauge\nb 8\n")
	}))
	defer server.Close()
	p := shell(t, `echo 'no JSON'; echo '{"msg":"limits"}'; echo '{"msg":"ready","listen":["127.0.0.1:1","127.0.0.1:2"],"tls_listen":["127.0.0.1:3"],"internal_listen":"`+
		strings.TrimPrefix(server.URL, "http://")+`"}' >&2; exec sleep 600`)
	if err := p.Ready(); err != nil {
		t.Fatal(err)
	}
	got := []string{p.Public, p.Secure, p.URL("ws", "/a"), p.URL("wss", "/b"), p.URL("http", "/c"), p.URL("https", "/d")}
	want := []string{"127.0.0.1:1", "127.0.0.1:3", "ws://127.0.0.1:1/a", "wss://127.0.0.1:3/b", "http://127.0.0.1:1/c", "https://127.0.0.1:3/d"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	m, err := p.Metrics()
	if err != nil {
		t.Fatal(err)
	}
	sums := []float64{m.Sum("a", "", ""), m.Sum("a", "k", "x"), m.Sum("a", "k", "z"), m.Sum("b", "", ""), m.Sum("c", "", "")}
	if diff := cmp.Diff([]float64{7, 3, 0, 8, 0}, sums); diff != "" {
		t.Error(diff)
	}
	if _, err := p.Get("/other"); err == nil || !strings.Contains(err.Error(), "GET /other: 404 Not Found: not here") {
		t.Errorf("a page that is not there: %v", err)
	}
	if err := p.Stop(); err == nil || err.Error() != "signal: terminated" || !p.HasEnded() {
		t.Errorf("stopped: %v", err)
	}
}

func TestAGatewayThatEndsIsNotReady(t *testing.T) {
	p := shell(t, "echo '--listen x: no port'; exit 3")
	if err := p.Ready(); err == nil || !strings.Contains(err.Error(), "did not start") ||
		!strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "--listen x: no port") {
		t.Error(err)
	}
}

func TestChildrenHaveNoSettingsOfThisProcess(t *testing.T) {
	t.Setenv("SLUICE_LISTEN", "off")
	t.Setenv("OTHER", "kept")
	p := shell(t, "env")
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	if env := p.Log.String(); strings.Contains(env, "SLUICE_") || !strings.Contains(env, "OTHER=kept\n") {
		t.Error(env)
	}
}

func TestArgumentsNameListenersWhereNoFlagDoes(t *testing.T) {
	for flags, want := range map[string]string{
		"":                      "serve --listen 127.0.0.1:0 --internal-listen 127.0.0.1:0",
		"--raw publish":         "serve --raw publish --listen 127.0.0.1:0 --internal-listen 127.0.0.1:0",
		"--listen off":          "serve --listen off --internal-listen 127.0.0.1:0",
		"--listen=off":          "serve --listen=off --internal-listen 127.0.0.1:0",
		"--tls-listen :0":       "serve --tls-listen :0 --listen 127.0.0.1:0 --internal-listen 127.0.0.1:0",
		"--internal-listen off": "serve --internal-listen off --listen 127.0.0.1:0",
	} {
		if got := strings.Join(Arguments(strings.Fields(flags)...), " "); got != want {
			t.Errorf("%s: got %s, want %s", flags, got, want)
		}
	}
}

func TestLogWaitsForAWholeRecord(t *testing.T) {
	var l Log
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	var got struct{ N int }
	go func() { done <- l.Wait(ctx, "b", &got) }()
	for _, part := range []string{`{"msg":"a","n":1}` + "\n" + `{"msg":"b"`, `,"n":2}`, "\n", `{"msg":"b","n":3}` + "\n"} {
		l.Write([]byte(part))
		for looked := false; !looked && ctx.Err() == nil && len(done) == 0; runtime.Gosched() {
			l.mu.Lock()
			looked = l.changed != nil // it waits for more
			l.mu.Unlock()
		}
	}
	if err := <-done; err != nil || got.N != 2 {
		t.Errorf("got %v, %v", got, err)
	}
	past, cancel := context.WithCancel(ctx)
	cancel()
	if err := l.Wait(past, "c", &got); err == nil || !strings.Contains(err.Error(), `no record "c" in its log`) {
		t.Error(err)
	}
}
