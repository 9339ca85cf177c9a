package top

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/clitest"
	"sluice/cmd/internal/doctor"
	"sluice/cmd/internal/option"
	"sluice/cmd/internal/serve"
)

// fakeInspector is the internal listener of a gateway with two connections, one of them
// with a malicious name.
type fakeInspector struct {
	*httptest.Server
	asked  chan string // queries, as many as fit
	broken atomic.Bool
	looks  atomic.Int64
	key    string
}

const fakeConnections = `{"total":10000,"sort":"pending","connections":[
 {"id":"17","address":"192.0.2.1:1234","protocol":"websocket","format":"json","compression":"permessage-deflate","tls":true,"channels":["prices","\u001b[2J\u202eevil\u0000` + "\xff" + `` +
	`AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"],"state":"blocked","pending_bytes":3355443,"unsent_age_ms":1234,"lag":12,"rtt_us":120,"loop":0},
 {"id":"9","address":"[2001:db8::1]:443","protocol":"event_stream","format":"raw","compression":"gzip","tls":false,"channels":[],"state":"open","pending_bytes":0,"unsent_age_ms":0,"lag":0,"rtt_us":2500,"loop":1}]}`

func newFakeInspector(t *testing.T) *fakeInspector {
	f := &fakeInspector{asked: make(chan string, 100)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/connections", func(w http.ResponseWriter, r *http.Request) {
		if f.broken.Load() {
			http.Error(w, "out of order\x1b[2J", http.StatusServiceUnavailable)
			return
		}
		select {
		case f.asked <- r.URL.RawQuery:
		default:
		}
		fmt.Fprint(w, fakeConnections)
	})
	mux.HandleFunc("POST /api/connections/{id}/close", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("id") != "17" {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"error":{"code":"not_found","message":"no such connection"}}`)
			return
		}
		fmt.Fprint(w, `{"id":"17","closed":true}`)
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		n := f.looks.Add(1)
		fmt.Fprintf(w, `# HELP sluice_connections Open connections.
sluice_connections{loop="0"} 6000
sluice_connections{loop="1"} 4000
sluice_blocked_connections{loop="0"} 12
sluice_held_bytes{what="logs"} 3.145728e+06
sluice_held_bytes{what="connections"} 209715.2
sluice_dropped_publications_total{reason="slow"} 5
sluice_dropped_publications_total{reason="skip"} 2
sluice_messages_received_total{loop="0"} %d
sluice_publications_total{source="api"} 1500
sluice_deliveries_total{loop="0"} 1.5e+06
sluice_sent_bytes_total{loop="0"} 1.048576e+07
# TYPE sluice_loop_lag_seconds histogram
sluice_loop_lag_seconds_bucket{loop="0",le="+Inf"} 10
sluice_loop_lag_seconds_sum{loop="0"} 0.001
sluice_loop_lag_seconds_count{loop="0"} 10
sluice_loop_lag_seconds_bucket{loop="1",le="+Inf"} 10
sluice_loop_lag_seconds_sum{loop="1"} 0.012
sluice_loop_lag_seconds_count{loop="1"} 10
`, 1000*n)
	})
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.key != "" && r.Header.Get("X-API-Key") != f.key {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

func TestTopPrintsOneTableWhereNoTerminalIs(t *testing.T) {
	f := newFakeInspector(t)
	code, stdout, stderr := clitest.Run(commands(nil), "", "top", "--url", f.URL, "--sort", "lag", "--limit", "7")
	const want = `connections 10,000  blocked 12  buffered 3.2MiB  dropped 7  loop lag 1.2ms
since start: received 1,000  published 1,500  delivered 1,500,000  sent 10MiB

ID  PENDING   AGE  LAG    RTT  STATE    ADDRESS            CHANNELS                                  KIND                        LOOP
17   3.2MiB  1.2s   12  120us  blocked  192.0.2.1:1234     prices,[2Jevil` + "\ufffd" + `AAAAAAAAAAAAAAAAAAAAAA...  websocket/json/deflate/tls  0
 9       0B     -    0  2.5ms  open     [2001:db8::1]:443  -                                         event_stream/gzip           1
and 9,998 more
`
	if diff := cmp.Diff(want, stdout); diff != "" || code != 0 || stderr != "" {
		t.Errorf("exit code %d, stderr %q\n%s", code, stderr, diff)
	}
	if got := <-f.asked; got != "limit=7&sort=lag" {
		t.Errorf("it asks for %q", got)
	}
	code, stdout, _ = clitest.Run(commands([]string{"SLUICE_INTERNAL_LISTEN=" + strings.TrimPrefix(f.URL, "http://")}), "", "top", "--json")
	if code != 0 || stdout != fakeConnections+"\n" || !json.Valid([]byte(strings.ToValidUTF8(stdout, ""))) {
		t.Errorf("exit code %d, --json:\n%s", code, stdout)
	}
}

func TestTopClosesAConnection(t *testing.T) {
	f := newFakeInspector(t)
	if code, stdout, stderr := clitest.Run(commands(nil), "", "top", "--url", f.URL, "--close", "17"); code != 0 || stdout != "closed connection 17\n" || stderr != "" {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
	wantTop(t, cli.ExitFailed, "no connection 18: it may have ended; 'sluice top' lists the open ones", "--url", f.URL, "--close", "18")
}

// commands returns a root with top alone.
func commands(env []string) *cobra.Command {
	root, cfg := &cobra.Command{Use: "sluice"}, new(serve.Settings)
	root.AddCommand(NewCommand(cfg, option.New(cfg), env))
	return root
}

func TestTopShowsItsCertificateWhereOneIsWanted(t *testing.T) {
	me := clitest.NewIdentity(t)
	internal, ca := clitest.TLSProxy(t, newFakeInspector(t).Listener.Addr().String(), me.Demand)
	clitest.WantCertificate(t, func() *cobra.Command { return commands(nil) }, me, ca, "top", "--url", "https://"+internal)
}

// wantTop runs `sluice top`, which is to fail with one line.
func wantTop(t *testing.T, code int, told string, args ...string) {
	t.Helper()
	got, stdout, stderr := clitest.Run(commands(nil), "", append([]string{"top"}, args...)...)
	if got != code || stdout != "" || stderr != "sluice: "+told+"\n" {
		t.Errorf("%v: exit code %d, stdout %q, stderr\n%swant %d,\n%s", args, got, stdout, stderr, code, told)
	}
}

func TestTopSaysInOneLineWhatIsWrong(t *testing.T) {
	old := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"error":{"code":"not_found","message":"there is nothing here"}}`)
	}))
	defer old.Close()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>") }))
	defer other.Close()
	foreign := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"error":{"code":"forbidden","message":"only programs on this machine are served"}}`)
	}))
	defer foreign.Close()
	locked := newFakeInspector(t)
	locked.key = "secret"
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()

	const isOld = ": not found; this is not a gateway's internal listener (use --url), or the gateway is older than this command"
	const noKey = "/api/connections: missing or wrong API key; specify the gateway's key with --api-key-file"
	wantTop(t, cli.ExitFailed, old.URL+"/api/connections"+isOld, "--url", old.URL)
	wantTop(t, cli.ExitFailed, old.URL+"/api/connections"+isOld, "--url", old.URL+"/", "--close", "17")
	wantTop(t, cli.ExitFailed, other.URL+"/api/connections: unexpected response: not JSON; is this a gateway's internal listener?", "--url", other.URL)
	wantTop(t, cli.ExitFailed, foreign.URL+"/api/connections: the server responded with 403 Forbidden: only programs on this machine are served", "--url", foreign.URL)
	wantTop(t, cli.ExitFailed, locked.URL+noKey, "--url", locked.URL)
	wantTop(t, cli.ExitFailed, locked.URL+noKey, "--url", locked.URL, "--api-key-file", clitest.WriteFile(t, "wrong", "guess\n"))
	wantTop(t, cli.ExitFailed, gone.URL+"/api/connections: connection refused; is the gateway running at this address? (set it with SLUICE_INTERNAL_LISTEN or --url)",
		"--internal-listen", strings.TrimPrefix(gone.URL, "http://"))
	if code, stdout, stderr := clitest.Run(commands(nil), "", "top", "--url", locked.URL, "--api-key-file", clitest.WriteFile(t, "right", "secret\n")); code != 0 || stderr != "" {
		t.Errorf("with the key: exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}

	for told, args := range map[string][]string{
		"--sort size: must be one of pending, lag, age, id":                                            {"--sort", "size"},
		"--limit 0: must be at least 1; omit it to fill the terminal":                                  {"--limit", "0"},
		"--interval 1ms: must be at least 100ms, because each refresh costs the gateway CPU":           {"--interval", "1ms"},
		"--timeout 0s: must be greater than 0, such as 2s":                                             {"--timeout", "0s"},
		"--close prints no table: remove --once and --json":                                            {"--close", "17", "--json"},
		`--close "../17": must be a connection ID from the table, such as 8813299279671066641`:         {"--close", "../17"},
		`--close "": must be a connection ID from the table, such as 8813299279671066641`:              {"--close", ""},
		"--internal-listen off: there is no internal listener to query; use --url":                     {"--internal-listen", "off"},
		"--url ws://h: not an http or https URL; use one such as http://127.0.0.1:8000, or unix:/path": {"--url", "ws://h"},
	} {
		wantTop(t, cli.ExitUsage, told, args...)
	}
}

// watching is a `sluice top` that draws for a test.
type watching struct {
	*clitest.Output
	keys  chan byte
	ended chan error
}

func watch(t *testing.T, f *fakeInspector, columns, lines int, color bool) *watching {
	t.Helper()
	w := &watching{clitest.NewOutput(), make(chan byte), make(chan error, 1)}
	p, err := doctor.PlaceAt(f.URL)
	if err != nil {
		t.Fatal(err)
	}
	screen := &screen{out: w, size: func() (int, int) { return columns, lines }, keys: w.keys}
	job := &top{place: p, sort: "pending", interval: 10 * time.Millisecond, timeout: clitest.Patience, color: color}
	first, err := job.look(context.Background(), job.fitting(columns, lines))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.ended <- job.watch(ctx, screen, first)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return w
}

func (w *watching) press(key byte) { w.keys <- key }

// picture returns the last whole picture.
func (w *watching) picture() []string {
	pictures := strings.Split(w.String(), cursorHome)
	for i := len(pictures) - 1; i > 0; i-- {
		if text, whole := strings.CutSuffix(pictures[i], clearBelow); whole {
			return strings.Split(strings.ReplaceAll(text, clearLine, ""), "\r\n")
		}
	}
	return nil
}

func TestTopDrawsAgainAndAgainAndObeysItsKeys(t *testing.T) {
	f := newFakeInspector(t)
	w := watch(t, f, 60, 9, false)
	w.Wait(t, "per second: received")
	for n, line := range w.picture() {
		if n >= 9 || len([]rune(line)) > 60 || strings.ContainsAny(line, "\x1b\x00\u202e") {
			t.Errorf("line %d of the picture: %q", n, line)
		}
	}
	if got := <-f.asked; got != "limit=3&sort=pending" { // what a screen of nine lines has room for
		t.Errorf("it asks for %q", got)
	}
	for key, name := range map[byte]string{'l': "lag", 'a': "age", 'I': "id", 'p': "pending"} {
		w.press(key)
		for got := ""; got != "limit=3&sort="+name; {
			select {
			case got = <-f.asked:
			case <-time.After(clitest.Patience):
				t.Fatalf("%c does not sort by %s", key, name)
			}
		}
	}
	f.broken.Store(true)
	w.Wait(t, "stale: the server responded with 503 Service Unavailable: ")
	w.press('x')
	w.press('q')
	if err := <-w.ended; err != nil {
		t.Error(err)
	}
}

func TestColorsCanBeTurnedOff(t *testing.T) {
	f := newFakeInspector(t)
	w := watch(t, f, 120, 24, true)
	w.Wait(t, reverse)
	plain := watch(t, f, 120, 24, false)
	plain.Wait(t, "per second: received")
	for _, how := range []string{bold, reverse, red, normal} {
		if strings.Contains(plain.String(), how) {
			t.Errorf("%q although colors are off", how)
		}
	}
	plain.press('\x03')
	if err := <-plain.ended; err != nil {
		t.Error(err)
	}
}

func TestTopWithoutATerminalHasNoScreen(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close() // a character device, but no terminal
	if newScreen(null, null) != nil {
		t.Error("a screen on " + os.DevNull)
	}
}

func TestATickDuringALookIsLeftOut(t *testing.T) {
	var p pace
	if !p.begin(false) || p.begin(false) {
		t.Error("not one look at a time")
	}
	if p.end() {
		t.Error("after a tick during a look, the next one begins at once")
	}
	if !p.begin(true) || p.begin(true) || p.begin(false) {
		t.Error("not one look at a time, with keys")
	}
	if !p.end() {
		t.Error("what a key changed is not looked at")
	}
	if p.begin(false) {
		t.Error("the second look of a key is no look")
	}
	if p.end() || !p.begin(false) {
		t.Error("the looks do not end")
	}
}
