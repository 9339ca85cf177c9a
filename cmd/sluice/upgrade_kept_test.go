package main

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"sluice/cmd/internal/clitest"
)

// What an operator and a backend have goes on: counters, the session of the page, and the results for idempotency keys.
func TestUpgradeKeepsCountersSessionsAndKeys(t *testing.T) {
	key := clitest.WriteFile(t, "key", "sesame\n")
	l := startLineage(t, "--insecure", "--api-key-file", key, "--history", "10")
	var cookie *http.Cookie
	ask := func(method, path, body string) string {
		t.Helper()
		r, err := http.NewRequest(method, l.internal+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Origin", l.internal)
		r.Header.Set("Content-Type", "application/json")
		if cookie != nil {
			r.AddCookie(cookie)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode >= 300 {
			t.Fatalf("%s %s: %s %s %v", method, path, resp.Status, answer, err)
		}
		if all := resp.Cookies(); len(all) > 0 {
			cookie = all[0]
		}
		return string(answer)
	}
	metric := func(name string) float64 {
		t.Helper()
		m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(ask("GET", "/metrics", ""))
		if m == nil {
			t.Fatalf("no %s in the metrics", name)
		}
		v, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	serving := regexp.MustCompile(`process (\d+) serves`)
	count := func() int { return int(metric(`sluice_publications_total{source="api"}`)) }
	ask("POST", "/login", `{"key":"sesame"}`)
	const publication = `{"channel":"news","data":1,"idempotency_key":"once"}`
	first := ask("POST", "/api/publish", publication)
	for n := range 2 {
		ask("POST", "/api/publish", fmt.Sprintf(`{"channel":"news","data":%d}`, n))
		want := count()
		if want != n+2 {
			t.Errorf("%d publications, want %d", want, n+2)
		}
		code, report, stderr := runOnce(nil, "upgrade", "--url", l.internal, "--api-key-file", key)
		if code != 0 {
			t.Fatalf("upgrade: exit code %d: %s", code, stderr)
		}
		if m := serving.FindStringSubmatch(report); m != nil {
			l.pid, _ = strconv.Atoi(m[1]) // digits
		} else {
			t.Fatalf("no process in the report: %s", report)
		}
		if again := ask("POST", "/api/publish", publication); again != first {
			t.Errorf("published again: %s, and %s before", again, first)
		}
		if got := count(); got != want {
			t.Errorf("%d publications after upgrade %d, want %d", got, n, want)
		}
		if upgrades, froze := metric("sluice_upgrades_total"), metric("sluice_taken_over_freeze_seconds"); int(upgrades) != n+1 || froze <= 0 || froze > clitest.Patience.Seconds() {
			t.Errorf("%v upgrades after upgrade %d, in which nobody was served for %v s", upgrades, n, froze)
		}
	}
}
