package main

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"sluice/bench/child"
	"sluice/cmd/internal/clitest"
)

// mistake is a wrong command, and what its answer has to say.
type mistake struct {
	name          string
	typed         string // after "sluice", in a directory with mistakeFiles
	env           string
	exit          int
	what, why, do string
}

// mistakeFiles are in the directory of each command.
var mistakeFiles = map[string]string{
	"odd.conf":     "listen\n",
	"unknown.conf": "# ours\nlistne = :8000\n",
	"unknown.json": `{"namespaces":[{"name":"chat","allow_subscribe_for_clients":true}]}`,
	"broken.json":  "{\n  \"namespaces\": [},\n}\n",
	"short":        "secret\n",
	"secret":       strings.Repeat("s", 64) + "\n",
	"many.conf":    "\nmax-connections = 100000000\n",
}

// wrongToken has the claims {"sub":["42"]}, and a signature with the secret.
const wrongToken = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOlsiNDIiXX0.ZkBUJeU0ZukXPq79Xu-p0yley7MCrp0tNYiBxbEzOO8"

// These are mistakes that people made in their first hour with sluice. Each answer names what is
// wrong, why it is, and what to do.
func TestMistakesAreAnswered(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	used := l.Addr().String()
	g := start(t, "--raw", "publish")

	dir := t.TempDir()
	for name, text := range mistakeFiles {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range []mistake{
		{"command", "serv", "", 2, `"serv"`, "unknown command", "did you mean serve?"},
		{"command of another", "fanout", "", 2, `"fanout"`, "unknown command", "did you mean sluice bench fanout?"},
		{"help of a command of another", "help fanout", "", 2, `"fanout"`, "unknown command", "did you mean sluice help bench fanout?"},
		{"flag", "--lisen :8000", "", 2, "--lisen", "unknown flag", "did you mean --listen?"},
		{"variable", "serve", "SLUICE_LISTN=:8000", 2, "SLUICE_LISTN", "unknown variable", "did you mean SLUICE_LISTEN?"},
		{"key", "--config unknown.conf", "", 2, "unknown.conf:2", `unknown key "listne"`, "did you mean listen?"},
		{"line", "--config odd.conf", "", 2, "odd.conf:1", `"listen" is not a setting`, "write 'key = value'"},
		{"file", "--config missing.conf", "", 2, "--config missing.conf", "no such file", "use a file with lines 'key = value'"},
		{"address", "--listen 8000", "", 2, "--listen 8000", "not an address", "use HOST:PORT, such as 127.0.0.1:8000"},
		{"address in use", "--internal-listen off --listen " + used, "", 1, "--listen " + used, "already in use", "stop the process that 'ss -ltnp' shows there, or use another port"},
		{"word", "--raw both", "", 2, "--raw both", "must be one of", "auto, publish, listen, off"},
		{"size", "--max-message 64Q", "", 2, "--max-message 64Q", "must be a size", "64KiB"},
		{"size with a short unit, which is none", "config --max-message 64K", "", 0, "max-message ", "64KiB", "flag --max-message"},
		{"duration", "--ping-interval 25", "", 2, "--ping-interval 25", "must be a duration with a unit", "such as 500ms, 10s or 2m"},
		{"origin", "--allowed-origins app.example.com", "", 2, "app.example.com", "scheme", `"https://app.example.com"`},
		{"option of a namespace", "--namespaces unknown.json", "", 2, `"allow_subscribe_for_clients"`, "unknown", `did you mean "allow_subscribe_for_client"?`},
		{"JSON", "--namespaces broken.json", "", 2, "broken.json", "invalid", "line 2"},
		{"secret", "--token-hmac-secret-file short", "", 2, "--token-hmac-secret-file short", "must be at least 32", "Generate one with 'sluice token secret'"},
		{"insecure within reach", "--insecure --listen :8100", "", 2, "--listen :8100", "other machines can reach", "listen on 127.0.0.1"},
		{"internal listener within reach", "--internal-listen :9100", "", 2, "--internal-listen :9100", "other machines can reach it", "--api-key-file"},
		{"name of a figure", "bench fanout --fail-if foo>1", "", 2, `--fail-if "foo>1"`, "no metric", "the metrics are bytes_per_delivery"},
		{"token", "token verify --token-hmac-secret-file secret " + wrongToken, "", 1, "invalid token", `claim "sub"`, "must be a string or an integer"},
		{"sub at the internal listener", "sub news --url " + g.internal, "", 1, "404", "internal listener", "public one, by default on port 8000"},
		{"pub at the internal listener", "pub news hello --url " + g.internal, "", 1, "404", "internal listener", "public one, by default on port 8000"},
		{"secret that others can read", "check --listen 127.0.0.1:0 --internal-listen off --token-hmac-secret-file secret", "", 0, "--token-hmac-secret-file secret", "every user of this machine can read it", "chmod o= secret"},
		{"more connections than files", "check --config many.conf", "", 1, "many.conf:2", "file descriptors", "ulimit"},
	} {
		t.Run(m.name, func(t *testing.T) {
			cmd, answer := mistaken(t, dir, strings.Fields(m.typed)...)
			cmd.Env = append(cmd.Env, m.env)
			_ = cmd.Run() // the exit code says it all
			if got := cmd.ProcessState.ExitCode(); got != m.exit {
				t.Errorf("exit code %d, want %d", got, m.exit)
			}
			for _, says := range []string{m.what, m.why, m.do} {
				if !strings.Contains(answer.String(), says) {
					t.Errorf("does not say %q:\n%s", says, answer)
				}
			}
		})
	}
}

// mistaken returns a sluice to run, and what it writes.
func mistaken(t *testing.T, dir string, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), clitest.Patience)
	t.Cleanup(cancel)
	var answer bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, child.Environ(), &answer, &answer
	return cmd, &answer
}

// A browser does not show why a page of another origin was refused: the log has to.
func TestRefusedOriginIsAnsweredInTheLog(t *testing.T) {
	s := startHere(t)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/sse/news", nil)
	if err != nil {
		t.Fatal(err)
	}
	const origin = "http://app.example.com:5500"
	request.Header.Set("Origin", origin)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusForbidden {
		t.Errorf("status %d", response.StatusCode)
	}
	r := s.log.wait(t, "refused a page from another origin: to allow it, add the origin to --allowed-origins")
	if r["origin"] != origin {
		t.Errorf("the log names the origin %v", r["origin"])
	}
	s.stop()
}

// A client that waits for its server to close ends at the second signal. Its message is not
// about a gateway that stops.
func TestSecondSignalEndsAClient(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cmd, answer := mistaken(t, t.TempDir(), "sub", "news", "--url", "http://"+l.Addr().String())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait() // ignored: it has been waited for, or the test has failed
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := ws.Upgrade(conn); err != nil {
		t.Fatal(err)
	}
	err = ws.WriteFrame(conn, ws.NewPingFrame(nil))
	if header, wrong := ws.ReadHeader(conn); err != nil || wrong != nil || header.OpCode != ws.OpPong { // it is connected
		t.Fatalf("opcode %v, %v, %v; want a pong", header.OpCode, err, wrong)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if header, err := ws.ReadHeader(conn); err != nil || header.OpCode != ws.OpClose {
		t.Fatalf("opcode %v, %v; want a Close", header.OpCode, err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the exit code says it all
	const want = "sluice: second signal (interrupt): exiting immediately\n"
	if code := cmd.ProcessState.ExitCode(); code != 1 || answer.String() != want {
		t.Errorf("exit code %d, %q; want 1, %q", code, answer, want)
	}
}
