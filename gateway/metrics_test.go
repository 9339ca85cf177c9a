package gateway

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"sluice/gateway/access/namespace"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
	"sluice/gateway/event"
	"sluice/gateway/hook"
	"sluice/gateway/ops"

	"github.com/google/go-cmp/cmp"
)

const metricsNamespaces = `{
	"without_namespace": {"history_size": 2, "history_ttl": "60s"},
	"namespaces": [{"name": "chat"}, {"name": "game", "history_size": 1, "history_ttl": "60s"}]}`

// busyServer is a gateway with something of everything that metrics tell of.
func busyServer(t *testing.T) *server {
	set, err := namespace.Parse([]byte(metricsNamespaces))
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, Config{Namespaces: set, Insecure: true, Version: "v1.2.3", Commit: "c0ffee", SendBuffer: 4 << 10,
		Events:            []EventReceiver{{Name: "here", To: event.Func(func(context.Context, []event.Event) error { return nil })}},
		CertificateExpiry: func() time.Time { return time.Now().Add(time.Hour) }})
	// Hooks have no effect with Insecure, but figures.
	live := *s.live.Load()
	live.Hooks = hook.NewSet(hook.Hooks{Disconnect: hook.Func(func(context.Context, *hook.DisconnectRequest) (*hook.DisconnectResult, error) { return nil, nil }, hook.Options{})})
	s.live.Store(&live)
	s.engine.Engine = reporting{s.engine.Engine, engine.Stats{Parts: []engine.Part{{Name: "store", Up: true}}, Gaps: map[string]uint64{engine.GapSlow: 1}, Nodes: 1}}
	raw, sub := clienttest.Dial(t, s, "/ws/chat:a"), member(t, s, "")
	sub.Joins("chat:a")
	sub.Joins("x")
	slow := clienttest.DialSmall(t, s, "/ws/game:slow")
	for i := range 3 {
		s.publish("game:slow", clienttest.Stars(60<<10)+fmt.Sprint(i))
	}
	raw.Send(clienttest.Text("text"))
	raw.WantText("its own", "text")
	raw.Send(clienttest.Closing(1000, ""))
	raw.WantClose("it leaves", 1000)
	slow.Vanish()
	return s
}

// families returns the gateway's own metrics, and the text that has them.
func families(t *testing.T, s *server) (own map[string]*dto.MetricFamily, text string) {
	t.Helper()
	status, _, text := askHTTP(t, "GET", s.internal("").URL+"/metrics", nil)
	parser := expfmt.NewTextParser(model.UTF8Validation)
	own, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil || status != http.StatusOK {
		t.Fatalf("/metrics: %d, %v", status, err)
	}
	for name := range own {
		if !strings.HasPrefix(name, "sluice_") {
			delete(own, name)
		}
	}
	return own, text
}

func TestMetricsAreThoseOfTheTable(t *testing.T) {
	t.Parallel()
	type row struct {
		Type, Help string
		Labels     []string
	}
	got, want := map[string]row{}, map[string]row{}
	own, _ := families(t, busyServer(t))
	for name, f := range own {
		r := row{Type: strings.ToLower(f.GetType().String()), Help: f.GetHelp()}
		for i, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName())
			}
			if slices.Sort(labels); i > 0 && !slices.Equal(labels, r.Labels) {
				t.Errorf("%s has series with %q, others with %q", name, labels, r.Labels)
			}
			r.Labels = labels
		}
		got[name] = r
	}
	for _, m := range ops.Metrics {
		labels := slices.Clone(m.Labels)
		slices.Sort(labels)
		if _, twice := want[m.Name]; twice {
			t.Errorf("%s is there twice", m.Name)
		}
		want[m.Name] = row{m.Type, m.Help, labels}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("/metrics (-the table +the process):\n%s", diff)
	}
	labels := map[string]string{}
	for _, l := range own["sluice_build_info"].GetMetric()[0].GetLabel() {
		labels[l.GetName()] = l.GetValue()
	}
	if labels["version"] != "v1.2.3" || labels["commit"] != "c0ffee" || !strings.HasPrefix(labels["goversion"], "go1.") {
		t.Errorf("built from %q", labels)
	}
}

func TestPromtoolFindsNothing(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is missing: install it (Debian: apt-get install prometheus)")
	}
	_, text := families(t, busyServer(t))
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(text)
	found, err := cmd.CombinedOutput() // its status is also of what is not the gateway's own
	if _, ran := err.(*exec.ExitError); err != nil && !ran {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(found)) {
		if !strings.HasPrefix(line, "go_") && !strings.HasPrefix(line, "process_") {
			t.Errorf("promtool check metrics: %s", line)
		}
	}
}

func TestNamespacesAreCounted(t *testing.T) {
	t.Parallel()
	set, err := namespace.Parse([]byte(metricsNamespaces))
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, Config{Namespaces: set, Insecure: true})
	at := s.internal("").URL
	type counts struct{ channels, subscriptions, publications float64 }
	wants := func(why string, want map[string]counts) {
		t.Helper()
		var got map[string]counts
		var all map[string]float64
		clienttest.WaitFor(t, why, func() bool {
			all, got = metrics(t, at), map[string]counts{}
			for name := range want {
				got[name] = counts{all["sluice_namespace_channels "+name], all["sluice_namespace_subscriptions "+name], all["sluice_namespace_publications_total "+name]}
			}
			for _, of := range []string{"channels", "subscriptions", "publications_total"} { // not read at one time
				if all["sluice_namespace_"+of] != all["sluice_"+of] {
					return false
				}
			}
			return cmp.Equal(want, got, cmp.AllowUnexported(counts{}))
		})
	}
	wants("nothing", map[string]counts{"": {}, "chat": {}, "game": {}})
	a, b := clienttest.Dial(t, s, "/ws/chat:a"), clienttest.Dial(t, s, "/ws/x")
	m := member(t, s, "")
	m.Joins("chat:a")
	m.Joins("game:g")
	wants("subscribers", map[string]counts{"": {1, 1, 0}, "chat": {1, 2, 0}, "game": {1, 1, 0}})
	a.Send(clienttest.Text("1"))
	a.WantText("its own", "1")
	b.Send(clienttest.Text("1"))
	s.publish("chat:a", "2")
	a.WantText("from outside", "2")
	s.publish("chat:nobody", "3") // keeps nothing, so that there is no channel
	s.publish("$chat:a", "3")     // is of that namespace too
	m.Does(`{"id":9,"publish":{"channel":"chat:nobody","data":3}}`)
	m.Does(`{"id":10,"publish":{"channel":"y","data":3}}`)
	s.publish("game:nobody", "4") // is kept
	s.publish("y", "5")
	s.wantAPI("publish", `{"channel":"game:g","data":6}`, `{"result":{"offset":1,"epoch":"E","subscribers":1}}`)
	wants("publications", map[string]counts{"": {2, 1, 3}, "chat": {1, 2, 5}, "game": {2, 1, 2}})
	a.Send(clienttest.Closing(1000, ""))
	a.WantClose("it leaves", 1000)
	m.Vanish()
	b.Vanish()
	wants("all have left", map[string]counts{"": {2, 0, 3}, "chat": {0, 0, 5}, "game": {2, 0, 2}})

	c := clienttest.Dial(t, s, "/ws/chat:a?echo=off")
	c.Send(clienttest.Text("to nobody else"))
	wants("a client", map[string]counts{"": {2, 0, 3}, "chat": {1, 1, 6}, "game": {2, 0, 2}})
}
