package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"sluice/cmd/internal/cli"
)

// configured is a gateway with files in a directory: sluice.conf, and what it names. DIR in a text stands for it.
type configured struct {
	*lineage
	dir string
}

func startConfigured(t *testing.T, files map[string]string, args ...string) *configured {
	t.Helper()
	c := &configured{dir: t.TempDir()}
	for name, text := range files {
		c.write(t, name, text)
	}
	c.lineage = startLineage(t, append([]string{"--config", filepath.Join(c.dir, "sluice.conf")}, args...)...)
	return c
}

// write replaces a file at once.
func (c *configured) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path+".new", []byte(strings.ReplaceAll(text, "DIR", c.dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// reload runs `sluice reload`, which must end with the exit code, and say each of says.
func (c *configured) reload(code int, args []string, says ...string) {
	c.t.Helper()
	got, stdout, stderr := runOnce(nil, append([]string{"reload", "--url", c.internal}, args...)...)
	if got != code {
		c.t.Errorf("reload: exit code %d, want %d: %s%s", got, code, stdout, stderr)
	}
	text := strings.ReplaceAll(stdout+stderr, c.dir, "DIR")
	for _, s := range says {
		if !strings.Contains(text, s) {
			c.t.Errorf("reload does not say %q:\n%s", s, text)
		}
	}
	if n := strings.Count(stderr, "\n"); code != 0 && n != len(says) {
		c.t.Errorf("reload says %d lines, want %d:\n%s", n, len(says), stderr)
	}
}

// hangUp sends SIGHUP, and waits for one more reload with the outcome.
func (c *configured) hangUp(outcome string) {
	c.t.Helper()
	before := c.metric("sluice_config_reloads_total", "outcome", outcome)
	if err := syscall.Kill(c.pid, syscall.SIGHUP); err != nil {
		c.t.Fatal(err)
	}
	c.awaitMetric(before+1, "sluice_config_reloads_total", "outcome", outcome)
}

// wantSuccessful checks what the metric says of the last reload.
func (c *configured) wantSuccessful(want float64) {
	c.t.Helper()
	if got := c.metric("sluice_config_last_reload_successful", "", ""); got != want {
		c.t.Errorf("sluice_config_last_reload_successful is %v, want %v", got, want)
	}
}

const conf = "namespaces = DIR/ns.json\nlog-level = info\n"

func TestReloadAppliesAllOrNothing(t *testing.T) {
	t.Parallel()
	const open = `{"namespaces": [{"name": "news", "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true, "allow_publish_for_client": true, "allow_publish_for_anonymous": true, "allow_raw_publish": true}]}`
	c := startConfigured(t, map[string]string{"sluice.conf": conf, "ns.json": open})
	keeps := join(t, c.sluice, "/ws/news:1", "keeps")
	begun := c.metric("sluice_config_last_reload_success_timestamp_seconds", "", "")
	c.reload(0, nil, "nothing has changed")
	c.wantSuccessful(1)

	// Valid, by signal: another namespace.
	c.write(t, "ns.json", strings.Replace(open, "]}", `, {"name": "more", "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true, "allow_publish_for_client": true, "allow_publish_for_anonymous": true, "allow_raw_publish": true}]}`, 1))
	c.hangUp("reloaded")
	join(t, c.sluice, "/ws/more:1", "more").conn.Close() // ignored: it has got what it wanted
	if at := c.metric("sluice_config_last_reload_success_timestamp_seconds", "", ""); at <= begun {
		t.Errorf("the time of the last reload is %v, and was %v at the start", at, begun)
	}

	// Everything that is wrong is said at once, and nothing is applied.
	c.write(t, "ns.json", `{"namespaces": [{"name": "ne`)
	c.write(t, "sluice.conf", conf+"pong-timeout = 1ms\nmax-message = 1\n")
	c.reload(cli.ExitUsage, nil,
		"sluice: not reloaded: --namespaces DIR/ns.json: line 1, column 2",
		"sluice: not reloaded: --pong-timeout 1ms is too short: ",
		"sluice: not reloaded: --max-message 1B is too small: ",
		"sluice: not reloaded: DIR/sluice.conf:3: pong-timeout = 1ms (now: 10s): needs a restart; ",
		"sluice: not reloaded: DIR/sluice.conf:4: max-message = 1 (now: 64KiB): needs a restart; ")
	c.wantSuccessful(0)
	c.write(t, "sluice.conf", conf+"max-mesage = 1\nsendbuffer = 1\n")
	c.reload(cli.ExitUsage, nil, "DIR/sluice.conf:3: unknown key", "DIR/sluice.conf:4: unknown key")
	c.hangUp("invalid")
	c.write(t, "sluice.conf", conf)
	c.hangUp("invalid") // ns.json is still half a file

	// What needs a restart rejects what could be applied.
	c.write(t, "ns.json", `{"namespaces": []}`)
	c.write(t, "sluice.conf", conf+"loops = 7\n")
	c.reload(cli.ExitRestart, nil, "DIR/sluice.conf:3: loops = 7 (now: auto): needs a restart; 'sluice upgrade' applies it without closing connections")
	status, answer := post(t, c.sluice, "/api/reload", "", "")
	fault := answer["error"].(map[string]any)
	if status != http.StatusConflict || fault["code"] != "needs_restart" || len(fault["faults"].([]any)) != 1 {
		t.Errorf("POST /api/reload: %d %v", status, answer)
	}
	c.hangUp("needs_restart")
	join(t, c.sluice, "/ws/more:1", "more").conn.Close() // ignored: as above
	c.wantSuccessful(0)

	keeps.send(1, "all the while")
	keeps.want(1, "all the while")
	c.write(t, "ns.json", open)
	c.write(t, "sluice.conf", conf)
	c.hangUp("reloaded")
	c.wantSuccessful(1)
	keeps.send(1, "still here")
	keeps.want(1, "still here")
}

// The answer has what changed, old and new, but no secrets.
func TestReloadSaysWhatChanged(t *testing.T) {
	t.Parallel()
	secret := strings.Repeat("s", 40)
	c := startConfigured(t, map[string]string{
		"sluice.conf": "token-hmac-secret-file = DIR/secret\nlog-level = info\nconnect-hook = http://u:old@127.0.0.1:1/\n", "secret": secret,
	})
	c.write(t, "secret", strings.Repeat("t", 40))
	c.write(t, "sluice.conf", "token-hmac-secret-file = DIR/secret\nlog-level = debug\nconnect-hook = http://u:new@127.0.0.1:1/\nhook-timeout=2s\n")
	code, stdout, stderr := runOnce(nil, "reload", "--json", "--url", c.internal)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var report struct {
		Changed []struct {
			Name, Old, New, Place string
			Content               bool
		}
	}
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatalf("%s: %v", stdout, err)
	}
	var got []string
	for _, x := range report.Changed {
		got = append(got, fmt.Sprintf("%s %q %q %v %s", x.Name, x.Old, x.New, x.Content, x.Place))
	}
	text := strings.ReplaceAll(strings.Join(got, "\n"), c.dir, "DIR")
	want := `token-hmac-secret-file "DIR/secret" "DIR/secret" true DIR/sluice.conf:1
connect-hook "http://u:xxxxx@127.0.0.1:1/" "http://u:xxxxx@127.0.0.1:1/" true DIR/sluice.conf:3
hook-timeout "1s" "2s" false DIR/sluice.conf:4
log-level "info" "debug" false DIR/sluice.conf:2`
	if text != want {
		t.Errorf("changed:\n%s\nwant\n%s", text, want)
	}
	if said := stdout + c.log.String(); strings.Contains(said, "old@") || strings.Contains(said, "new@") {
		t.Errorf("a password is in what the gateway says:\n%s", said)
	}
	c.write(t, "sluice.conf", "token-hmac-secret-file = DIR/secret\n")
	c.reload(0, nil, "log-level: debug -> info", "connect-hook: http://u:xxxxx@127.0.0.1:1/ -> not set")
}

func TestReloadChangesTheAPIKey(t *testing.T) {
	t.Parallel()
	c := startConfigured(t, map[string]string{"sluice.conf": "api-key-file = DIR/key\n", "key": "first\n"})
	try := func(key string, want int) {
		t.Helper()
		if status, answer := post(t, c.sluice, "/publish/news", key, "x"); status != want {
			t.Errorf("with the key %q: %d %v, want %d", key, status, answer, want)
		}
	}
	try("first", http.StatusOK)
	c.write(t, "key", "second\n")
	if status, answer := post(t, c.sluice, "/api/reload", "second", ""); status != http.StatusUnauthorized {
		t.Errorf("reload with a wrong key: %d %v", status, answer)
	}
	if status, answer := post(t, c.sluice, "/api/reload", "first", ""); status != http.StatusOK {
		t.Errorf("reload: %d %v", status, answer)
	}
	try("first", http.StatusUnauthorized)
	try("second", http.StatusOK)
}

// While an upgrade is under way, nothing is reloaded: the new process has read its configuration.
func TestNothingIsReloadedDuringAnUpgrade(t *testing.T) {
	t.Parallel()
	l := startPoints(t, "--insecure", "--address-rate", "off")
	l.at("hold", "")
	l.at("old.agreed", "hold")
	first := l.tryLater()
	l.reached("old.agreed", "hold")
	status, answer := post(t, l.sluice, "/api/reload", "", "")
	if status != http.StatusConflict || answer["error"].(map[string]any)["code"] != "upgrade_running" {
		t.Errorf("POST /api/reload during an upgrade: %d %v", status, answer)
	}
	l.abort()
	if err := os.Remove(filepath.Join(l.points, "hold")); err != nil {
		t.Fatal(err)
	}
	<-first // ignored: it was aborted
	if status, answer := post(t, l.sluice, "/api/reload", "", ""); status != http.StatusOK {
		t.Errorf("POST /api/reload after an upgrade: %d %v", status, answer)
	}
}

// reloadsInARow is how many reloads a test has: SLUICE_TEST_RELOADS, or a few.
func reloadsInARow() int {
	if n, err := strconv.Atoi(os.Getenv("SLUICE_TEST_RELOADS")); err == nil {
		return n
	}
	return 40
}

// Whatever is in the files, and however often they are loaded: clients that are connected stay, and get everything.
func TestReloadUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	text := func(history int) string {
		return fmt.Sprintf(`{"without_namespace": {"allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true, "allow_publish_for_client": true, "allow_publish_for_anonymous": true, "allow_raw_publish": true, "history_size": %d, "history_ttl": "60s"}}`, history)
	}
	c := startConfigured(t, map[string]string{"sluice.conf": conf, "ns.json": text(10)}, "--address-rate", "off", "--raw", "publish", "--log-level", "debug")
	g := startLedger(c.lineage, "ws", "http")
	outcomes := map[string]int{}
	for i := range reloadsInARow() {
		g.more(rand.Int64N(20))
		outcome, key := "reloaded", ""
		switch i % 4 {
		case 0:
			c.write(t, "ns.json", text(10+i))
		case 1: // in place, and only half of it
			outcome = "invalid"
			if err := os.WriteFile(filepath.Join(c.dir, "ns.json"), []byte(text(10)[:50]), 0o600); err != nil {
				t.Fatal(err)
			}
		case 2:
			c.write(t, "ns.json", text(20))
			outcome, key = "needs_restart", "loops = 9\n"
		}
		c.write(t, "sluice.conf", conf+key)
		if outcomes[outcome]++; i%8 < 4 {
			c.hangUp(outcome)
		} else if status, answer := post(t, c.sluice, "/api/reload", "", ""); (status == http.StatusOK) != (outcome == "reloaded") {
			t.Errorf("POST /api/reload: %d %v, want %s", status, answer, outcome)
		}
	}
	for outcome, n := range outcomes {
		if got := c.metric("sluice_config_reloads_total", "outcome", outcome); got != float64(n) {
			t.Errorf("%v reloads %s, want %d", got, outcome, n)
		}
	}
	g.more(100)
	g.balance()
}

// Kubernetes replaces the files of a volume by a link that it swaps.
func TestReloadOnChangeFollowsSwappedLinks(t *testing.T) {
	t.Parallel()
	volume := t.TempDir()
	swap := func(generation, text string) {
		t.Helper()
		dir := filepath.Join(volume, "..", filepath.Base(volume)+generation)
		for _, err := range []error{
			os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "ns.json"), []byte(text), 0o600),
			os.Symlink(dir, filepath.Join(volume, "..data_tmp")), os.Rename(filepath.Join(volume, "..data_tmp"), filepath.Join(volume, "..data")),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	namespaces := func(names ...string) string {
		var list []string
		for _, n := range names {
			list = append(list, fmt.Sprintf(`{"name": %q, "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true, "allow_publish_for_client": true, "allow_publish_for_anonymous": true, "allow_raw_publish": true}`, n))
		}
		return `{"namespaces": [` + strings.Join(list, ",") + `]}`
	}
	swap("1", namespaces("news"))
	if err := os.Symlink("..data/ns.json", filepath.Join(volume, "ns.json")); err != nil {
		t.Fatal(err)
	}
	c := startConfigured(t, map[string]string{"sluice.conf": "reload-on-change = on\nnamespaces = " + volume + "/ns.json\n"})
	swap("2", namespaces("news", "more"))
	c.awaitMetric(1, "sluice_config_reloads_total", "outcome", "reloaded")
	join(t, c.sluice, "/ws/more:1", "more").conn.Close() // ignored: it has got what it wanted

	// A fault is logged once, and the file is loaded again when it changes.
	swap("3", namespaces("news", "more")[:40])
	c.awaitMetric(1, "sluice_config_reloads_total", "outcome", "invalid")
	swap("4", namespaces("news", "again"))
	c.awaitMetric(2, "sluice_config_reloads_total", "outcome", "reloaded")
	if n := c.metric("sluice_config_reloads_total", "outcome", "invalid"); n != 1 {
		t.Errorf("the broken file was loaded %v times, want once", n)
	}
	join(t, c.sluice, "/ws/again:1", "again").conn.Close() // ignored: as above
}

func TestReloadRevokesTokensOfARemovedSecret(t *testing.T) {
	t.Parallel()
	old, fresh := strings.Repeat("o", 40), strings.Repeat("f", 40)
	const file = `{"namespaces": [{"name": "news", "allow_subscribe_for_client": true, "allow_publish_for_client": true, "allow_raw_publish": true}]}`
	const both, one = "namespaces = DIR/ns.json\ntoken-hmac-secret-file = DIR/fresh,DIR/old\n", "namespaces = DIR/ns.json\ntoken-hmac-secret-file = DIR/fresh\n"
	c := startConfigured(t, map[string]string{"sluice.conf": both, "ns.json": file, "old": old, "fresh": fresh})
	connect := func(secret string) peer {
		t.Helper()
		code, token, stderr := runOnce(nil, "token", "make", "--user=42", "--token-hmac-secret-file", filepath.Join(c.dir, secret))
		if code != 0 {
			t.Fatal(stderr)
		}
		return join(t, c.sluice, "/ws/news:"+secret+"?token="+strings.TrimSpace(token), secret)
	}
	removed, kept := connect("old"), connect("fresh")
	c.write(t, "sluice.conf", one)
	c.reload(0, nil, "token-hmac-secret-file: DIR/fresh,DIR/old -> DIR/fresh")
	removed.send(1, "until it expires")
	removed.want(1, "until it expires")
	c.reload(0, []string{"--revoke"}, "ended: 0 subscriptions, 1 connection")
	removed.wantClose(1008)
	kept.send(1, "still here")
	kept.want(1, "still here")
}
