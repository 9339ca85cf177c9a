package deploy_test

import (
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

func TestPromtoolAcceptsAlertsAndScrapeConfiguration(t *testing.T) {
	t.Parallel()
	promtool := tool(t, "promtool", "prometheus")
	command(t, promtool, "check", "rules", "prometheus/alerts.yml")
	command(t, promtool, "test", "rules", "prometheus/alerts_test.yml")
	key := write(t, "key", "secret")
	config := write(t, "prometheus.yml", substitute(t, shipped(t, "prometheus/scrape.yml"), credentials, key)+ruleFiles(t))
	command(t, promtool, "check", "config", config)
}

// Each alert has a unit test in which it fires, and one in which it does not.
func TestEveryAlertHasUnitTests(t *testing.T) {
	t.Parallel()
	alerts := alertNames(t)
	tests := shipped(t, "prometheus/alerts_test.yml")
	silent := regexp.MustCompile(`alertname: (\w+), exp_alerts: \[\]`)
	fires := regexp.MustCompile(`alertname: (\w+)\n\s+exp_alerts:\n\s+- exp_labels:`)
	for what, pattern := range map[string]*regexp.Regexp{"silent": silent, "firing": fires} {
		var tested []string
		for _, m := range pattern.FindAllStringSubmatch(tests, -1) {
			tested = append(tested, m[1])
		}
		for _, alert := range alerts {
			if !slices.Contains(tested, alert) {
				t.Errorf("alerts_test.yml has no case in which %s is %s", alert, what)
			}
		}
	}
}

func alertNames(t *testing.T) (names []string) {
	t.Helper()
	for _, m := range regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(shipped(t, "prometheus/alerts.yml"), -1) {
		names = append(names, m[1])
	}
	if len(names) < 10 {
		t.Fatalf("found %d alerts", len(names))
	}
	return names
}

// credentials is the file with the API key that scrape.yml names.
const credentials = "/etc/prometheus/sluice-api-key"

// ruleFiles are the lines that make a configuration load the alerts.
func ruleFiles(t *testing.T) string {
	t.Helper()
	alerts, err := filepath.Abs("prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	return "\nrule_files: [" + alerts + "]\n"
}
