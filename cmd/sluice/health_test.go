package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/clitest"
)

// wantHealth runs `sluice health` and compares its output.
func wantHealth(t *testing.T, env []string, args string, code int, told string) {
	t.Helper()
	got, stdout, stderr := runOnce(env, append([]string{"health"}, strings.Fields(args)...)...)
	if told != "" {
		told = "sluice: " + told + "\n"
	}
	if got != code || stdout != "" || stderr != told {
		t.Errorf("health %s: exit code %d, stdout %q, stderr\n%swant %d,\n%s", args, got, stdout, stderr, code, told)
	}
}

func TestHealthIsSilentWhenAllIsWell(t *testing.T) {
	s := startHere(t)
	public, internal := strings.TrimPrefix(s.url, "http://"), strings.TrimPrefix(s.internal, "http://")
	env := []string{"SLUICE_LISTEN=" + public, "SLUICE_INTERNAL_LISTEN=" + internal, "SLUICE_RAW=nonsense, which health ignores"}
	wantHealth(t, env, "", 0, "")
	wantHealth(t, env, "--ready", 0, "")
	wantHealth(t, nil, "--listen "+public, 0, "")
	wantHealth(t, nil, "--config "+clitest.WriteFile(t, "sluice.conf", "listen = "+public+"\nloops = 0\n"), 0, "")
	wantHealth(t, nil, "--url "+s.url, 0, "")
	wantHealth(t, nil, "--ready --url "+s.internal+"/", 0, "")
	wantHealth(t, nil, "--url "+s.internal+"/readyz", 0, "")
	s.stop()
}

func TestHealthAsksAnyAddressThroughLoopback(t *testing.T) {
	s := startHere(t, "--listen", "0.0.0.0:0")
	_, port, err := net.SplitHostPort(strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	wantHealth(t, []string{"SLUICE_LISTEN=0.0.0.0:" + port}, "", 0, "")
	wantHealth(t, []string{"SLUICE_LISTEN=:" + port + ",unix:/no/such/socket"}, "", 0, "") // the first counts
	s.stop()
}

func TestHealthOverUnixSockets(t *testing.T) {
	public, internal := filepath.Join(t.TempDir(), "p"), filepath.Join(t.TempDir(), "i")
	s := startHere(t, "--listen", "unix:"+public, "--internal-listen", "unix:"+internal)
	env := []string{"SLUICE_LISTEN=unix:" + public, "SLUICE_INTERNAL_LISTEN=unix:" + internal}
	wantHealth(t, env, "", 0, "")
	wantHealth(t, env, "--ready", 0, "")
	wantHealth(t, nil, "--url unix:"+public, 0, "")
	s.stop()
	wantHealth(t, env, "", cli.ExitFailed, "unix:"+public+" /healthz: no such file or directory; is the gateway running at this address? (set it with SLUICE_LISTEN or --url)")
}

func TestHealthSaysInOneLineWhatIsWrong(t *testing.T) {
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/readyz":
			http.Error(w, "not ready: shutting down", http.StatusServiceUnavailable)
		case "/page":
			w.WriteHeader(http.StatusNotFound)
			w.Write([]byte("<html>\nnot here</html>"))
		case "/moved":
			http.Redirect(w, r, "/healthz", http.StatusFound)
		case "/hang":
			<-hang
		}
	}))
	defer server.Close()
	defer close(hang)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	closed.Close()

	wantHealth(t, nil, "--url "+server.URL, 0, "")
	wantHealth(t, nil, "--ready --url "+server.URL, cli.ExitFailed, server.URL+"/readyz: the server responded with 503 Service Unavailable: not ready: shutting down")
	wantHealth(t, nil, "--url "+server.URL+"/page", cli.ExitFailed, server.URL+"/page: the server responded with 404 Not Found: this may not be a gateway")
	wantHealth(t, nil, "--url "+server.URL+"/moved", cli.ExitFailed, server.URL+"/moved: the server responded with 302 Found: this may not be a gateway")
	wantHealth(t, nil, "--timeout 20ms --url "+server.URL+"/hang", cli.ExitFailed, server.URL+"/hang: no response within 20ms: the gateway is stuck or the machine is overloaded (or --timeout is too short)")
	wantHealth(t, []string{"SLUICE_INTERNAL_LISTEN=" + nobody}, "--ready", cli.ExitFailed, "http://"+nobody+"/readyz: connection refused; is the gateway running at this address? (set it with SLUICE_INTERNAL_LISTEN or --url)")
	wantHealth(t, nil, "--url http://"+nobody, cli.ExitFailed, "http://"+nobody+"/healthz: connection refused; is the gateway running at this address? (set it with --url)")
	wantHealth(t, []string{"SLUICE_LISTEN=" + nobody}, "", cli.ExitFailed, "http://"+nobody+"/healthz: connection refused; is the gateway running at this address? (set it with SLUICE_LISTEN or --url)")
}

func TestHealthRefusesWhatItCannotAsk(t *testing.T) {
	for _, tt := range []struct{ args, told string }{
		{"--url 127.0.0.1:8000", "--url 127.0.0.1:8000: not an http or https URL; use one such as http://127.0.0.1:8000, or unix:/path"},
		{"--url ws://127.0.0.1:8000", "--url ws://127.0.0.1:8000: not an http or https URL; use one such as http://127.0.0.1:8000, or unix:/path"},
		{"--url unix:", "--url unix:: not an http or https URL; use one such as http://127.0.0.1:8000, or unix:/path"},
		{"--timeout 0s", "--timeout 0s: must be greater than 0, such as 2s"},
		{"--ready --internal-listen off", "--internal-listen off: there is no internal listener to check; remove --ready, or use --url"},
		{"--listen 127.0.0.1:0", "--listen 127.0.0.1:0: the system chooses the port, so it is unknown here; use --url"},
		{"--listen 8000", "--listen 8000: not an address; use HOST:PORT, such as 127.0.0.1:8000 or :8000, or unix:/path"},
		{"--config /no/such/file", "--config /no/such/file: no such file or directory; use a file with lines 'key = value'"},
	} {
		wantHealth(t, nil, tt.args, cli.ExitUsage, tt.told)
	}
	wantHealth(t, []string{"SLUICE_INTERNAL_LISTEN=off"}, "--ready", cli.ExitUsage,
		"--internal-listen off: there is no internal listener to check; remove --ready, or use --url (set by SLUICE_INTERNAL_LISTEN)")
}
