package deploy_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// operatorsPages are the pages that name metrics and settings.
var operatorsPages = []string{"README.md", "NODES.md", "OPERATIONS.md", "SECURITY.md", "sizing.md", "proxy/README.md", "recipes/behind-nginx.md", "recipes/troubleshooting.md"}

// queryFiles are the files with queries for other programs.
var queryFiles = []string{"prometheus/alerts.yml", "grafana/sluice.json"}

// An alert on a metric that does not exist never fires.
func TestEveryMetricThatIsNamedExists(t *testing.T) {
	t.Parallel()
	text := metrics(t)
	series := regexp.MustCompile(`\bsluice_[a-z_]+`)
	for _, file := range slices.Concat(operatorsPages, queryFiles) {
		page := shipped(t, file)
		for _, name := range series.FindAllString(page, -1) {
			if !exposed(text, name) {
				t.Errorf("%s names %s, which /metrics does not show", file, name)
			}
		}
	}
}

// The labels in queries and alerts are those that a gateway shows.
func TestEveryLabelOfAQueryExists(t *testing.T) {
	t.Parallel()
	text := metrics(t)
	selector, matcher := regexp.MustCompile(`(sluice_[a-z_]+)\{([^}]+)\}`), regexp.MustCompile(`(\w+)[=!]~?"([^"]+)"`)
	for _, file := range queryFiles {
		found := 0
		for _, m := range selector.FindAllStringSubmatch(strings.ReplaceAll(shipped(t, file), `\"`, `"`), -1) {
			for _, label := range matcher.FindAllStringSubmatch(m[2], -1) {
				if label[1] == "job" || label[1] == "instance" { // Prometheus's own
					continue
				}
				found++
				for value := range strings.SplitSeq(label[2], "|") {
					if series := m[1] + `{` + label[1] + `="` + value + `"}`; !exposed(text, series) {
						t.Errorf("%s has %s, which /metrics does not show", file, series)
					}
				}
			}
		}
		if found < 5 {
			t.Errorf("found %d labels in %s", found, file)
		}
	}
}

// What the page on trouble quotes, as `"..."`, is what the gateway says; so are lines of the log.
func TestPagesQuoteTheGateway(t *testing.T) {
	t.Parallel()
	var source strings.Builder
	for _, dir := range []string{"../cmd", "../gateway"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && d.Name() == "node_modules" {
				return fs.SkipDir
			}
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			source.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	quoted := regexp.MustCompile("`\"([^`]+)\"`").FindAllStringSubmatch(shipped(t, "recipes/troubleshooting.md"), -1)
	if len(quoted) < 20 {
		t.Fatalf("found %d quotations", len(quoted))
	}
	logged := regexp.MustCompile(`msg="([^"]+)"`).FindAllStringSubmatch(shipped(t, "OPERATIONS.md"), -1)
	if len(logged) == 0 {
		t.Fatal("found no line of the log in OPERATIONS.md")
	}
	_, runbook, _ := strings.Cut(shipped(t, "OPERATIONS.md"), "\n## When the engine is away\n")
	runbook, _, _ = strings.Cut(runbook, "\n## ")
	said := regexp.MustCompile("`([a-z]+(?: [A-Za-z]+){2,})`").FindAllStringSubmatch(runbook, -1)
	if len(said) < 3 {
		t.Fatalf("found %d texts of the log in what to do when the engine is away", len(said))
	}
	for _, m := range said {
		if !strings.Contains(source.String(), m[1]) {
			t.Errorf("a page quotes %q, which is not in the source", m[1])
		}
	}
	// Texts about settings have a field in braces where pages have the flag.
	field, flag := regexp.MustCompile(`\{[A-Z][A-Za-z]+\}`), regexp.MustCompile(`--[a-z][a-z-]*`)
	settings := field.ReplaceAllString(source.String(), "--setting")
	for _, m := range append(quoted, logged...) {
		said := strings.Trim(strconv.Quote(m[1]), `"`)
		// A refusal is logged with its reason, which is a string of its own.
		message, reason, refused := strings.Cut(said, "connection refused: ")
		if refused {
			message, said = reason, `"`+reason+`"`
		}
		general := flag.ReplaceAllString(said, "--setting")
		if message == "" || !strings.Contains(source.String(), said) && (general == said || !strings.Contains(settings, general)) {
			t.Errorf("a page quotes %q, which is not in the source", m[1])
		}
	}
}
