package deploy_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/bench/child"
)

func TestPromtoolAcceptsAlertsAndScrapeConfiguration(t *testing.T) {
	t.Parallel()
	path := tool(t, "promtool", "prometheus")
	promtool := func(args ...string) { // its unit tests compute: they have the time that they need
		t.Helper()
		p := run(t, exec.Command(path, args...))
		if _, err := p.Wait(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, &p.Log)
		}
	}
	promtool("check", "rules", "prometheus/alerts.yml")
	promtool("test", "rules", "prometheus/alerts_test.yml")
	key := write(t, "key", "secret")
	promtool("check", "config", write(t, "prometheus.yml", substitute(t, shipped(t, "prometheus/scrape.yml"), credentials, key)+ruleFiles(t)))
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

// What a gateway counts is 0 for as long as nothing happens, and a query whose labels are wrong has
// no result, or is 0 as well. So every query has to return something else, while a gateway has all
// kinds of traffic. These cannot.
var mayBeZero = map[string]string{
	"Panics":                     "nothing panics",
	"Log records suppressed":     "the log has few records",
	"SluicePanic":                "nothing panics",
	"SluiceOutOfFileDescriptors": "there are enough file descriptors",
	"SluiceRestarts":             "the gateway does not restart",
	"Upgrades and reloads":       "it is neither upgraded nor reloaded",
	"SluiceUpgradeFailed":        "likewise",
	"SluiceRefusesClients":       "there is room for everybody",

	"Calls under way":       "the backend answers at once",
	"Circuit breakers open": "the backend is there",
	"SluiceHookShed":        "a few calls do not fill the queue",

	"Events":                  "nothing is dropped",
	"Age of the oldest event": "the receiver answers at once",
	"Events that wait":        "likewise",
	"Memory of the queues":    "likewise",
	"Resets and digests":      "the gateway does not restart",
	"SluiceWebhookBehind":     "the receiver is there",
	"SluiceWebhookDropped":    "likewise",
	"SluiceWebhookGone":       "likewise",

	"Share of time away":                      "the store is there",
	"Publications without an acknowledgement": "the store answers at once",
	"Age of the oldest of them":               "likewise",
	"Messages not yet in their channels":      "likewise",
	"Gaps by cause":                           "nothing is lost",
	"Channels completed or resubscribed":      "likewise",
	"SluiceEngineLags":                        "the store answers at once",
	"SluiceNodesDisagree":                     "there is one node",
	"SluiceNodesLoseMessages":                 "nothing is lost",
}

var mayBeEmpty = map[string]string{
	"SluiceNotScraped": "the target is there",

	"Connections left while draining":               "the gateway does not stop",
	"Freeze of the last upgrade":                    "it is not upgraded",
	"Compressed size":                               "no client asks for compression",
	"Bytes compressed":                              "likewise",
	"Not compressed, because compressors were busy": "likewise",
}

// A query is one that somebody else's program sends to Prometheus.
type promQuery struct {
	of, expr string
}

func TestQueriesOfDashboardAndAlertsHaveData(t *testing.T) {
	t.Parallel()
	tool(t, "prometheus", "prometheus")
	l := startLoad(t)
	prometheus := startPrometheus(t, l.g, l.keyFile)

	left := append(dashboardQueries(t, l.g), alertQueries(t)...)
	if len(left) < 80 {
		t.Fatalf("found %d queries", len(left))
	}
	why := map[promQuery]string{}
	for end := time.Now().Add(3 * patience); len(left) > 0 && time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		left = slices.DeleteFunc(left, func(q promQuery) bool {
			values, err := prometheus.query(q.expr)
			switch {
			case err != nil:
				t.Fatalf("%s: %s: %v", q.of, q.expr, err)
			case len(values) == 0:
				why[q] = "no data"
			case !slices.ContainsFunc(values, func(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }):
				why[q] = "only " + fmt.Sprint(values)
			case mayBeZero[q.of] == "" && !slices.ContainsFunc(values, func(v float64) bool { return v != 0 }):
				why[q] = "only zeros"
			default:
				return true
			}
			return mayBeEmpty[q.of] != ""
		})
	}
	for _, q := range left {
		t.Errorf("%s: %s: %s", q.of, q.expr, why[q])
	}
	if t.Failed() {
		l.report()
	}
	prometheus.wantRules(t, alertNames(t))
}

// dashboardQueries returns the queries of the dashboard, as Grafana sends them for one instance.
func dashboardQueries(t *testing.T, g *child.Process) (queries []promQuery) {
	t.Helper()
	type panel struct {
		Title   string
		Targets []struct{ Expr string }
		Panels  []panel
	}
	var dashboard struct {
		Panels     []panel
		Templating struct {
			List []struct{ Name, Definition string }
		}
		Annotations struct{ List []struct{ Name, Expr string } }
	}
	if err := json.Unmarshal([]byte(shipped(t, "grafana/sluice.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	variables := strings.NewReplacer("$job", "sluice", "$instance", g.Internal, "$__rate_interval", "10s")
	add := func(of, expr string) { queries = append(queries, promQuery{of, variables.Replace(expr)}) }
	var walk func(panels []panel)
	walk = func(panels []panel) {
		for _, p := range panels {
			for _, target := range p.Targets {
				add(p.Title, target.Expr)
			}
			walk(p.Panels)
		}
	}
	walk(dashboard.Panels)
	values := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)
	for _, v := range dashboard.Templating.List {
		if m := values.FindStringSubmatch(v.Definition); m != nil {
			add("variable "+v.Name, "group by ("+m[2]+") ("+m[1]+")")
		}
	}
	for _, a := range dashboard.Annotations.List {
		add("annotation "+a.Name, a.Expr)
	}
	for _, q := range queries {
		if strings.Contains(q.expr, "$") {
			t.Errorf("%s: %s: unknown variable", q.of, q.expr)
		}
	}
	return queries
}

// alertQueries returns what the alerts compare: both sides of each comparison.
func alertQueries(t *testing.T) (queries []promQuery) {
	t.Helper()
	rule := regexp.MustCompile(`(?m)^ +- alert: (\w+)\n(?: +#.*\n)*( +)expr: (?:(\S.*)|\|-\n((?: +.*\n)+?))(?:\n)? +(?:for|keep_firing_for|labels):`)
	rules := rule.FindAllStringSubmatch(shipped(t, "prometheus/alerts.yml"), -1)
	if n := len(alertNames(t)); len(rules) != n {
		t.Fatalf("found the expressions of %d of %d alerts", len(rules), n)
	}
	for _, m := range rules {
		// There is no hour before a test.
		expr := strings.ReplaceAll(strings.Join(strings.Fields(m[3]+m[4]), " "), " offset 5m", "")
		for _, operand := range operands(expr) {
			if !regexp.MustCompile(`^[\d.* ]+$`).MatchString(operand) {
				queries = append(queries, promQuery{m[1], operand})
			}
		}
	}
	return queries
}

// operands splits an expression at its comparisons and set operators.
func operands(expr string) (parts []string) {
	operator := regexp.MustCompile(`^ (and|or|unless|==|!=|<=|>=|<|>) `)
	depth, begin := 0, 0
	for i := 0; i < len(expr); i++ {
		switch expr[i] {
		case '(', '{', '[':
			depth++
		case ')', '}', ']':
			depth--
		case ' ':
			if m := operator.FindString(expr[i:]); m != "" && depth == 0 {
				parts = append(parts, expr[begin:i])
				begin = i + len(m)
				i = begin - 1
			}
		}
	}
	return append(parts, expr[begin:])
}

func TestOperandsOfExpressions(t *testing.T) {
	t.Parallel()
	for expr, want := range map[string][]string{
		`up == 0`:                          {"up", "0"},
		`a{b="c"} / (d > 0) > 0.9`:         {`a{b="c"} / (d > 0)`, "0.9"},
		`sum by (x) (a) > 5 and b[5m] < 7`: {"sum by (x) (a)", "5", "b[5m]", "7"},
	} {
		if got := operands(expr); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", expr, got, want)
		}
	}
}

// credentials is the file with the API key that scrape.yml names.
const credentials = "/etc/prometheus/sluice-api-key"

// ruleFiles are the lines that make a configuration load the alerts, which are evaluated every
// second.
func ruleFiles(t *testing.T) string {
	t.Helper()
	return "\nrule_files: [" + write(t, "alerts.yml", substitute(t, shipped(t, "prometheus/alerts.yml"), "interval: 15s", "interval: 1s")) + "]\n"
}

type prometheusServer struct{ address string }

// startPrometheus starts a Prometheus that scrapes a gateway often, with the shipped files.
func startPrometheus(t *testing.T, g *child.Process, keyFile string) *prometheusServer {
	t.Helper()
	p := &prometheusServer{"127.0.0.1:" + freePort(t)}
	config := substitute(t, shipped(t, "prometheus/scrape.yml"), "127.0.0.1:9000", g.Internal, credentials, keyFile, "scrape_interval: 15s", "scrape_interval: 500ms")
	config += ruleFiles(t)
	cmd := exec.Command("prometheus", "--config.file="+write(t, "prometheus.yml", config), "--storage.tsdb.path="+t.TempDir(), "--web.listen-address="+p.address, "--log.level=warn")
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1") // it has little to do, beside other tests
	process := run(t, cmd)
	waitFor(t, "Prometheus", func() bool {
		if process.HasEnded() {
			t.Fatalf("Prometheus has ended:\n%s", &process.Log)
		}
		status, _, err := get("http://" + p.address + "/-/ready")
		return err == nil && status == http.StatusOK
	})
	return p
}

// query returns the values of an instant query.
func (p *prometheusServer) query(expr string) ([]float64, error) {
	status, text, err := get("http://" + p.address + "/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		return nil, err
	}
	var answer struct {
		Error string
		Data  struct{ Result []struct{ Value [2]any } }
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil || answer.Error != "" {
		return nil, fmt.Errorf("%d: %s %v", status, answer.Error, err)
	}
	var values []float64
	for _, r := range answer.Data.Result {
		text, _ := r.Value[1].(string)
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	return values, nil
}

// wantRules waits until Prometheus has evaluated each of the alerts without an error.
func (p *prometheusServer) wantRules(t *testing.T, alerts []string) {
	t.Helper()
	var answer struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
	}
	waitFor(t, "Prometheus to evaluate the alerts", func() bool {
		status, text, err := get("http://" + p.address + "/api/v1/rules")
		if err != nil || status != http.StatusOK {
			t.Fatalf("/api/v1/rules: %d, %v", status, err)
		}
		if err := json.Unmarshal([]byte(text), &answer); err != nil {
			t.Fatal(err)
		}
		good := 0
		for _, group := range answer.Data.Groups {
			for _, rule := range group.Rules {
				if rule.Health == "err" {
					t.Fatalf("%s: %s", rule.Name, rule.LastError)
				}
				if rule.Health == "ok" && slices.Contains(alerts, rule.Name) {
					good++
				}
			}
		}
		return good == len(alerts)
	})
}
