package deploy_test

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// rows returns the cells of every table row of a page that has that many of them,
// without the tables' heads and rules.
func rows(page string, cells int) [][]string {
	var found [][]string
	head := true // the next row is a table's first
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			head = true
			continue
		}
		row := strings.Split(strings.Trim(line, "|"), "|")
		first := head
		head = false
		if first || strings.HasPrefix(line, "|--") || len(row) != cells {
			continue
		}
		for i := range row {
			row[i] = strings.Trim(strings.TrimSpace(row[i]), "`")
		}
		found = append(found, row)
	}
	return found
}

// exposed reports whether /metrics shows a series: a name, of a histogram too, or a name with labels.
func exposed(metrics, series string) bool {
	name, labels, _ := strings.Cut(series, "{")
	for line := range strings.Lines(metrics) {
		rest, ok := strings.CutPrefix(line, name)
		if line == "# TYPE "+name+" histogram\n" && labels == "" {
			return true
		}
		if ok && (rest[0] == ' ' && labels == "" || rest[0] == '{' && strings.Contains(rest, strings.TrimSuffix(labels, "}"))) {
			return true
		}
	}
	return false
}

// metrics returns the metrics of a fresh gateway that has a certificate, a data directory and a hook.
func metrics(t *testing.T) string {
	t.Helper()
	dir, _ := certificateFiles(t)
	g := serve(t, "--tls-listen", "127.0.0.1:0", "--tls-cert", dir+"/cert", "--tls-key", dir+"/key", "--data-dir", filepath.Join(t.TempDir(), "data"), "--subscribe-hook", "http://127.0.0.1:1/", "--webhook", "http://127.0.0.1:1/")
	status, text, err := get("http://" + g.Internal + "/metrics")
	if err != nil || status != 200 {
		t.Fatalf("/metrics: %d, %v", status, err)
	}
	return text
}

func TestEveryLimitIsWhatSecurityPageSays(t *testing.T) {
	t.Parallel()
	defaults, text := flags(t), metrics(t)
	limits := rows(shipped(t, "SECURITY.md"), 5)
	if len(limits) < 20 {
		t.Fatalf("found %d limits in SECURITY.md", len(limits))
	}
	told, seen := map[string]bool{}, map[string]bool{}
	for _, row := range limits {
		limit, flag, value, effect, metric := row[0], row[1], row[2], row[3], row[4]
		if effect == "" || !unicode.IsUpper(rune(effect[0])) && !unicode.IsDigit(rune(effect[0])) {
			t.Errorf("%s: %q does not begin a sentence", limit, effect)
		}
		if seen[limit] {
			t.Errorf("%s is in SECURITY.md twice", limit)
		}
		seen[limit] = true
		if flag != "fixed" {
			name := strings.TrimPrefix(flag, "--")
			told[name] = true
			want, known := defaults[name]
			if want == "" {
				want = "none"
			}
			switch {
			case !known:
				t.Errorf("%s: sluice serve has no flag %s", limit, flag)
			case value != want:
				t.Errorf("%s: default of %s is %q, SECURITY.md says %q", limit, flag, want, value)
			}
		}
		if !exposed(text, metric) {
			t.Errorf("%s: /metrics does not show %s", limit, metric)
		}
	}
	// What bounds clients has to be told; these are the names of such flags.
	bounds := regexp.MustCompile(`^(max-.*|.*-timeout|.*-interval|history.*|.*-buffer|.*-rate|.*-limit|.*-policy|.*-lowat|refuse|trusted-proxies|proxy-protocol|tls-client-ca|raw|allowed-origins|namespaces|token-.*|jwks-url|insecure|client-protocol)$`)
	for name := range defaults {
		if bounds.MatchString(name) && !told[name] {
			t.Errorf("SECURITY.md does not tell of --%s", name)
		}
	}
}

func TestEveryReasonIsInSecurityPage(t *testing.T) {
	t.Parallel()
	var told []string
	for _, row := range rows(shipped(t, "SECURITY.md"), 3) {
		for reason := range strings.SplitSeq(row[0], ",") {
			told = append(told, strings.Trim(strings.TrimSpace(reason), "`"))
		}
	}
	var real []string
	for _, m := range regexp.MustCompile(`sluice_connections_closed_total\{reason="(\w+)"\}`).FindAllStringSubmatch(metrics(t), -1) {
		real = append(real, m[1])
		if !slices.Contains(told, m[1]) {
			t.Errorf("SECURITY.md does not explain the reason %s", m[1])
		}
	}
	if len(real) == 0 {
		t.Fatal("found no reason in /metrics")
	}
	for _, reason := range told {
		if !slices.Contains(real, reason) {
			t.Errorf("SECURITY.md explains the reason %s, which there is not", reason)
		}
	}
}

// Whatever these files call a setting of the gateway is one.
func TestEverySettingThatIsNamedExists(t *testing.T) {
	t.Parallel()
	defaults := flags(t)
	variable := regexp.MustCompile(`\bSLUICE_[A-Z_]+[A-Z]\b`)
	files := []string{"Dockerfile", "systemd/sluice.service", "systemd/sluice.conf", "systemd/direct.conf"}
	for _, file := range slices.Concat(files, composeFiles, operatorsPages) {
		for _, name := range variable.FindAllString(shipped(t, file), -1) {
			flag := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, "SLUICE_")), "_", "-")
			if _, known := defaults[flag]; !known {
				t.Errorf("%s names %s, which sluice serve does not know", file, name)
			}
		}
	}
}
