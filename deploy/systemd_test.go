package deploy_test

import (
	"crypto/tls"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	unitFile   = "systemd/sluice.service"
	directFile = "systemd/direct.conf"
	reloadFile = "systemd/reload.conf"
)

// composeFiles are the projects for Docker.
var composeFiles = []string{"compose.yaml", "compose.nodes.yaml"}

// units returns the unit as it is, and with the drop-in, as systemd reads it then.
func units(t *testing.T) map[string]string {
	t.Helper()
	unit := shipped(t, unitFile)
	drop := substitute(t, shipped(t, directFile), "\n[Service]\n", "\n")
	return map[string]string{
		"sluice": write(t, "sluice.service", substitute(t, unit, "/usr/local/bin/sluice", sluice(t))),
		"direct": write(t, "sluice.service", substitute(t, unit, "/usr/local/bin/sluice", sluice(t), "[Install]\n", drop+"\n[Install]\n")),
	}
}

// exposureMax is the worst score of `systemd-analyze security` that is accepted:
// 0 is a service without any right, 10 one without any protection.
const exposureMax = "15" // tenths

func TestUnitIsHardened(t *testing.T) {
	t.Parallel()
	analyze := tool(t, "systemd-analyze", "systemd")
	for name, unit := range units(t) {
		out, err := exec.Command(analyze, "security", "--no-pager", "--offline=true", "--threshold="+exposureMax, unit).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if score := regexp.MustCompile(`Overall exposure level.*`).FindString(string(out)); score == "" {
			t.Errorf("%s: no score in\n%s", name, out)
		} else {
			t.Log(name, score)
		}
	}
}

func TestUnitIsUnderstood(t *testing.T) {
	t.Parallel()
	analyze := tool(t, "systemd-analyze", "systemd")
	for name, unit := range units(t) {
		if out, err := exec.Command(analyze, "verify", "--man=no", unit).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: systemd-analyze verify: %v\n%s", name, err, out)
		}
	}
}

// The drop-in makes a reload one that systemd waits for. Older versions do not know the type, and have to say no more than that.
func TestReloadDropInIsUnderstood(t *testing.T) {
	t.Parallel()
	analyze := tool(t, "systemd-analyze", "systemd")
	drop := substitute(t, shipped(t, reloadFile), "\n[Service]\n", "\n")
	unit := write(t, "sluice.service", substitute(t, shipped(t, unitFile), "/usr/local/bin/sluice", sluice(t), "[Install]\n", drop+"\n[Install]\n"))
	out, err := exec.Command(analyze, "verify", "--man=no", unit).CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if unknown := strings.Contains(lines[0], "Failed to parse service type, ignoring: notify-reload"); err != nil || len(lines) > 1 || len(out) > 0 && !unknown {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	if got := values(drop, "ExecReload"); len(got) != 1 || got[0] != "" {
		t.Errorf("ExecReload is %q: SIGHUP would be sent twice", got)
	}
}

// values returns what a unit sets a key to, one string for each line.
func values(unit, key string) []string {
	var found []string
	for _, m := range regexp.MustCompile(`(?m)^`+key+`=(.*)$`).FindAllStringSubmatch(unit, -1) {
		found = append(found, m[1])
	}
	return found
}

func TestSupervisorsWaitLongerThanClosingTakes(t *testing.T) {
	t.Parallel()
	shutdown, err := time.ParseDuration(flags(t)["shutdown-timeout"])
	if err != nil {
		t.Fatal(err)
	}
	waits := map[string]string{
		unitFile: strings.Join(values(shipped(t, unitFile), "TimeoutStopSec"), "") + "s",
	}
	for _, file := range composeFiles {
		waits[file] = regexp.MustCompile(`stop_grace_period: (\S+)`).FindStringSubmatch(shipped(t, file))[1]
	}
	for file, text := range waits {
		if wait, err := time.ParseDuration(text); err != nil || wait <= shutdown {
			t.Errorf("%s waits %s (%v), --shutdown-timeout is %v", file, text, err, shutdown)
		}
	}
}

// systemd's watchdog comes after the gateway's own, which logs the stack of the loop that
// is stuck and not of all.
func TestWatchdogOfSystemdIsTheSecond(t *testing.T) {
	t.Parallel()
	limit, err := time.ParseDuration(flags(t)["loop-timeout"])
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(values(shipped(t, unitFile), "WatchdogSec"), "") + "s"
	if wait, err := time.ParseDuration(text); err != nil || wait <= limit+5*time.Second {
		t.Errorf("WatchdogSec is %s (%v), --loop-timeout %v", text, err, limit)
	}
}

// A gateway that systemd's watchdog aborts, or that the Go runtime ends, has to come back, whatever
// status that leaves.
func TestUnitStartsAnAbortedGatewayAgain(t *testing.T) {
	t.Parallel()
	g := serve(t)
	if err := g.Signal(syscall.SIGABRT); err != nil { // as WatchdogSignal= is by default
		t.Fatal(err)
	}
	waitFor(t, "the end of an aborted gateway", g.HasEnded)
	state, _ := g.Wait()
	unit, status := shipped(t, unitFile), strconv.Itoa(state.ExitCode())
	if restart := values(unit, "Restart"); len(restart) != 1 || restart[0] != "on-failure" {
		t.Errorf("Restart is %q", restart)
	}
	for _, key := range []string{"RestartPreventExitStatus", "SuccessExitStatus"} {
		if set := strings.Fields(strings.Join(values(unit, key), " ")); slices.Contains(set, status) {
			t.Errorf("%s is %q, and an aborted gateway ends with %s: it would stay down", key, set, status)
		}
	}
}

// systemCalls returns the names that a unit allows, its groups taken apart as
// systemd does.
func systemCalls(t *testing.T, analyze, unit string) map[string]bool {
	t.Helper()
	groups, name := map[string][]string{}, ""
	for line := range strings.Lines(command(t, analyze, "syscall-filter", "--no-pager")) {
		word := strings.TrimSpace(line)
		switch {
		case word == "" || strings.HasPrefix(word, "#"):
		case strings.HasPrefix(line, "@"):
			name = word
		default:
			groups[name] = append(groups[name], word)
		}
	}
	var expand func(word string) map[string]bool
	expand = func(word string) map[string]bool {
		if !strings.HasPrefix(word, "@") {
			return map[string]bool{word: true}
		}
		if groups[word] == nil {
			t.Fatalf("systemd-analyze does not know the group %s", word)
		}
		names := map[string]bool{}
		for _, member := range groups[word] {
			maps.Copy(names, expand(member))
		}
		return names
	}
	allowed := map[string]bool{}
	for _, line := range values(unit, "SystemCallFilter") {
		words, without := strings.CutPrefix(line, "~")
		for _, word := range strings.Fields(words) {
			for call := range expand(word) {
				if without {
					delete(allowed, call)
				} else {
					allowed[call] = true
				}
			}
		}
	}
	return allowed
}

// The gateway does all its work with the system calls, the families of sockets and
// the memory that the unit allows: here another one kills it. This cannot show what a
// running systemd adds (users, mounts, credentials).
func TestGatewayWorksWithWhatUnitAllows(t *testing.T) {
	t.Parallel()
	unit := shipped(t, unitFile)
	calls := systemCalls(t, tool(t, "systemd-analyze", "systemd"), unit)
	families := strings.Fields(strings.Join(values(unit, "RestrictAddressFamilies"), " "))
	if got := values(unit, "MemoryDenyWriteExecute"); !cmp.Equal(got, []string{"true"}) {
		t.Errorf("MemoryDenyWriteExecute: %q", got)
	}

	const key = "0123456789abcdef"
	data := filepath.Join(t.TempDir(), "data")
	config := write(t, "sluice.conf", substitute(t, shipped(t, "systemd/sluice.conf"),
		"127.0.0.1:8000", "127.0.0.1:0", "127.0.0.1:9000", "127.0.0.1:0", "raw = listen", "raw = publish",
		"#data-dir = /var/lib/sluice\n", "data-dir = "+data+"\n",
		"max-connections = 100000", "max-connections = 100")) // as many descriptors as a test may have
	cmd := confined(t, calls, families, sluice(t), "serve", "--config", config)
	cmd.Env = append(cmd.Env, "SLUICE_API_KEY_FILE="+write(t, "api-key", key+"\n"), "SLUICE_CLOSE_TIMEOUT=1s", "SLUICE_PING_INTERVAL=1s",
		"SLUICE_TLS_LISTEN=127.0.0.1:0", "SLUICE_TLS_SELF_SIGNED=on")
	g := ready(t, run(t, cmd))

	c, err := connect(g.Public, "/echo", "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := echo(c, strings.Repeat("x", 60<<10)); err != nil {
		t.Fatal(err)
	}
	lines := events(t, g.Public, "/sse/news")
	wantLine(t, lines, "id: ")
	request := func(method, path, body string) {
		req, err := http.NewRequest(method, "http://"+g.Internal+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-API-Key", key)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	request(http.MethodPost, "/publish/news", "hello")
	wantLine(t, lines, "data: hello")
	wantLine(t, lines, ":") // time passes: a keep-alive
	request(http.MethodGet, "/metrics", "")
	request(http.MethodGet, "/debug/pprof/profile?seconds=1", "")
	if got := values(unit, "ExecReload"); !cmp.Equal(got, []string{"/bin/kill -HUP $MAINPID"}) {
		t.Errorf("ExecReload: %q", got)
	} else if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the reload", func() bool { return strings.Contains(g.Log.String(), "configuration reloaded") })
	trial := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for url, asker := range map[string]*http.Client{"http://" + g.Public: client, "https://" + g.Secure: trial} {
		resp, err := asker.Get(url + "/healthz")
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", url, resp.Status)
		}
	}

	if err := g.Stop(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	if _, err := os.Stat(filepath.Join(data, "lock")); err != nil {
		t.Errorf("nothing is stored: %v", err)
	}
}

// The directory that the configuration proposes is the one that systemd makes, for the service alone.
func TestUnitMakesTheDataDirectory(t *testing.T) {
	t.Parallel()
	unit := shipped(t, unitFile)
	proposed := regexp.MustCompile(`(?m)^#data-dir = (.*)$`).FindStringSubmatch(shipped(t, "systemd/sluice.conf"))
	if proposed == nil || "/var/lib/"+strings.Join(values(unit, "StateDirectory"), "") != proposed[1] {
		t.Errorf("StateDirectory is %q, sluice.conf proposes %q", values(unit, "StateDirectory"), proposed)
	}
	if got := values(unit, "StateDirectoryMode"); !cmp.Equal(got, []string{"0700"}) {
		t.Errorf("StateDirectoryMode: %q", got)
	}
}
