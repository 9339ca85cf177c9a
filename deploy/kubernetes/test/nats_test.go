package manifests

import (
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
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sluice/bench/child"
)

// The gateways' two keys, which `nk -gen user -pubout` has made for this test.
const (
	natsSeed = "SUAG3FQBFHXNO5UB33DS6SQJGLN4SM46DXTPD3ZNFQ2LF7Y6IWDCB7XQTE"
	natsUser = "UBE3WUMJYNJFFAWLGMVA4SPPNVM37X6QQPLN4HYPKS3BI5JEVNPMBB3A"
)

// serveNATS starts a NATS server with the shipped file, but alone, and returns its URL.
func serveNATS(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("nats-server")
	if err != nil {
		t.Skip("no nats-server on this machine: apt-get install nats-server")
	}
	dir := t.TempDir()
	text := read(t, filepath.Join(natsDir, "nats.conf"))
	for old, here := range map[string]string{
		`"0.0.0.0:4222"`: `"127.0.0.1:-1"`, `"0.0.0.0:8222"`: `"127.0.0.1:-1"`, `"/data"`: `"` + dir + `/data"`, `"/run/nats/`: `"` + dir + `/`,
	} {
		if !strings.Contains(text, old) {
			t.Fatalf("nats.conf has no %s", old)
		}
		text = strings.ReplaceAll(text, old, here)
	}
	text = regexp.MustCompile(`(?ms)^cluster \{.*?^\}$`).ReplaceAllString(text, "")
	config := filepath.Join(dir, "nats.conf")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, "--config", config)
	cmd.Env = append(os.Environ(), "NATS_SERVER_NAME=nats-0", "NATS_GATEWAY_USER="+natsUser)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	server, err := child.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Kill()
		if t.Failed() {
			t.Logf("the NATS server wrote:\n%s", &server.Log)
		}
	})
	listening := regexp.MustCompile(`Listening for client connections on (\S+)`)
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if log := server.Log.String(); strings.Contains(log, "Server is ready") {
			return "nats://" + listening.FindStringSubmatch(log)[1]
		}
		if server.HasEnded() || time.Now().After(end) {
			t.Fatalf("the NATS server does not start:\n%s", &server.Log)
		}
	}
}

// natsURL returns the URL of the servers in a container's variables, or "".
func natsURL(c core.Container) string {
	for _, e := range c.Env {
		if e.Name == "SLUICE_NATS_URL" {
			return e.Value
		}
	}
	return ""
}

// provide makes the directory of a volume with the owner and the mode that the kubelet gives it.
func (p *pod) provide(t *testing.T, of objects, dir, claim string) {
	t.Helper()
	named[*core.PersistentVolumeClaim](t, of, claim)
	err := os.MkdirAll(dir, 0o755)
	if err == nil && p.user != nil {
		err = os.Chown(dir, 0, int(p.user.Groups[0]))
	}
	if err == nil {
		err = os.Chmod(dir, 0o775|os.ModeSetgid)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// servers returns the objects of the NATS servers, and the StatefulSet.
func servers(t *testing.T) (of objects, set *apps.StatefulSet) {
	t.Helper()
	_, of = split(kustomized(t, nodesDir))
	return of, the[*apps.StatefulSet](t, of)
}

func TestSelectorsKeepGatewaysAndServersApart(t *testing.T) {
	of, set := servers(t)
	gateway, _ := split(kustomized(t, nodesDir))
	server, client := labels.Set(set.Spec.Template.Labels), labels.Set(the[*apps.Deployment](t, gateway).Spec.Template.Labels)
	check := func(what string, selector labels.Selector, own, other labels.Set) {
		t.Helper()
		if !selector.Matches(own) || selector.Matches(other) {
			t.Errorf("%s selects %s", what, selector)
		}
	}
	check("the StatefulSet", selector(t, set.Spec.Selector), server, client)
	check("the servers' Service", labels.SelectorFromSet(the[*core.Service](t, of).Spec.Selector), server, client)
	check("the servers' budget", selector(t, the[*policy.PodDisruptionBudget](t, of).Spec.Selector), server, client)
	check("the servers' NetworkPolicy", selector(t, &the[*networking.NetworkPolicy](t, of).Spec.PodSelector), server, client)
	check("the Deployment", selector(t, the[*apps.Deployment](t, gateway).Spec.Selector), client, server)
	check("the gateways' budget", selector(t, the[*policy.PodDisruptionBudget](t, gateway).Spec.Selector), client, server)
	for _, service := range all[*core.Service](gateway) {
		check(service.Name, labels.SelectorFromSet(service.Spec.Selector), client, server)
	}
	apart := set.Spec.Template.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution[0]
	check("the servers' anti-affinity", selector(t, apart.LabelSelector), server, client)
	rather := the[*apps.Deployment](t, gateway).Spec.Template.Spec.Affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution[0]
	check("the gateways' anti-affinity", selector(t, rather.PodAffinityTerm.LabelSelector), client, server)
}

// Names, ports and directories are in the file of the servers, in their StatefulSet and in the
// gateways' variables.
func TestServersAreWhereGatewaysLookForThem(t *testing.T) {
	of, set := servers(t)
	container, service := set.Spec.Template.Spec.Containers[0], the[*core.Service](t, of)
	config := named[*core.ConfigMap](t, of, set.Spec.Template.Spec.Volumes[slices.IndexFunc(set.Spec.Template.Spec.Volumes, func(v core.Volume) bool { return v.ConfigMap != nil })].ConfigMap.Name).Data["nats.conf"]
	if set.Spec.ServiceName != service.Name || service.Spec.ClusterIP != core.ClusterIPNone || !service.Spec.PublishNotReadyAddresses {
		t.Errorf("the servers' Service gives them no names before they are ready: %+v", service.Spec)
	}
	port := func(pattern string) int {
		t.Helper()
		m := regexp.MustCompile(pattern).FindStringSubmatch(config)
		if m == nil {
			t.Fatalf("nats.conf has no %s", pattern)
		}
		return int(intstr.Parse(m[1]).IntVal)
	}
	want := map[string]int{"client": port(`(?m)^listen: "0.0.0.0:(\d+)"`), "monitor": port(`http: "0.0.0.0:(\d+)"`), "cluster": port(`(?m)^  listen: "0.0.0.0:(\d+)"`)}
	got := map[string]int{}
	for _, p := range container.Ports {
		got[p.Name] = int(p.ContainerPort)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ports (-nats.conf +StatefulSet):\n%s", diff)
	}
	for _, probe := range []*core.Probe{container.StartupProbe, container.LivenessProbe, container.ReadinessProbe} {
		if probe.HTTPGet.Port.StrVal != "monitor" {
			t.Errorf("a probe asks the port %s", probe.HTTPGet.Port.StrVal)
		}
	}
	gateway, _ := split(kustomized(t, nodesDir))
	var urls, routes []string
	for i := range int(*set.Spec.Replicas) {
		host := set.Name + "-" + strconv.Itoa(i) + "." + service.Name
		urls, routes = append(urls, "nats://"+host+":4222"), append(routes, "nats://"+host+":6222")
	}
	if diff := cmp.Diff(strings.Join(urls, ","), natsURL(the[*apps.Deployment](t, gateway).Spec.Template.Spec.Containers[0])); diff != "" {
		t.Errorf("URLs (-StatefulSet +gateway):\n%s", diff)
	}
	if diff := cmp.Diff(routes, regexp.MustCompile(`nats://[\w.-]+:6222`).FindAllString(config, -1)); diff != "" {
		t.Errorf("routes (-StatefulSet +nats.conf):\n%s", diff)
	}
	for _, name := range []string{"NATS_SERVER_NAME", "NATS_GATEWAY_USER"} {
		if !strings.Contains(config, "$"+name) || !slices.ContainsFunc(container.Env, func(e core.EnvVar) bool { return e.Name == name && e.ValueFrom != nil }) {
			t.Errorf("the variable %s is not used, or not set", name)
		}
	}
	for _, path := range []string{"/data", "/run/nats"} {
		if !strings.Contains(config, `"`+path) || !slices.ContainsFunc(container.VolumeMounts, func(m core.VolumeMount) bool { return m.MountPath == path && !m.ReadOnly }) {
			t.Errorf("nats.conf does not use %s, or it is no volume", path)
		}
	}
	if pid := "ldm=" + regexp.MustCompile(`pid_file: "(.+)"`).FindStringSubmatch(config)[1]; !slices.Contains(container.Lifecycle.PreStop.Exec.Command, pid) {
		t.Errorf("preStop runs %q, which does not name %s", container.Lifecycle.PreStop.Exec.Command, pid)
	}
}

// Each server holds all histories, and a volume has room for what a server may store.
func TestHistoriesFitTheirVolumes(t *testing.T) {
	const overhead = 1.05 // indexes, Raft logs
	gibibytes := func(text string) float64 {
		t.Helper()
		quantity, err := resource.ParseQuantity(strings.TrimSuffix(text, "B"))
		if err != nil {
			t.Fatal(err)
		}
		return float64(quantity.Value()) / (1 << 30)
	}
	gateway, of := split(kustomized(t, nodesDir))
	config := read(t, filepath.Join(natsDir, "nats.conf"))
	limit := gibibytes(regexp.MustCompile(`max_file_store: (\S+)`).FindStringSubmatch(config)[1])
	volume := float64(the[*apps.StatefulSet](t, of).Spec.VolumeClaimTemplates[0].Spec.Resources.Requests.Storage().Value()) / (1 << 30)
	data := gibibytes(variable(t, the[*apps.Deployment](t, gateway).Spec.Template.Spec.Containers[0], "SLUICE_DATA_MAX"))
	if data > limit || limit*overhead > volume {
		t.Errorf("histories have up to %v GiB, servers store up to %v GiB, their volumes have %v GiB", data, limit, volume)
	}
	durable := kustomized(t, durableDir)
	data = gibibytes(variable(t, the[*apps.Deployment](t, durable).Spec.Template.Spec.Containers[0], "SLUICE_DATA_MAX"))
	volume = float64(the[*core.PersistentVolumeClaim](t, durable).Spec.Resources.Requests.Storage().Value()) / (1 << 30)
	if data*overhead > volume {
		t.Errorf("histories have up to %v GiB, their volume has %v GiB", data, volume)
	}
}

// A data directory belongs to one gateway: a second pod would wait for it for ever.
func TestAVolumeBelongsToOnePod(t *testing.T) {
	each(t, func(t *testing.T, of objects) {
		deployment := the[*apps.Deployment](t, of)
		volumes := deployment.Spec.Template.Spec.Volumes
		if !slices.ContainsFunc(volumes, func(v core.Volume) bool { return v.PersistentVolumeClaim != nil }) {
			return
		}
		if *deployment.Spec.Replicas != 1 || deployment.Spec.Strategy.Type != apps.RecreateDeploymentStrategyType {
			t.Errorf("%d replicas with the strategy %s", *deployment.Spec.Replicas, deployment.Spec.Strategy.Type)
		}
	})
}

// The preStop hook's lame duck mode has to end before the kubelet kills the server.
func TestServersHaveTimeToStop(t *testing.T) {
	_, set := servers(t)
	config := read(t, filepath.Join(natsDir, "nats.conf"))
	leaving := seconds(t, regexp.MustCompile(`lame_duck_duration: "(.+)"`).FindStringSubmatch(config)[1])
	if grace := *set.Spec.Template.Spec.TerminationGracePeriodSeconds; grace < leaving+margin {
		t.Errorf("a server has %d s to stop, and needs %d", grace, leaving+margin)
	}
}

// Only gateways reach the servers, and gateways reach them.
func TestNetworkPoliciesOfGatewaysAndServersMeet(t *testing.T) {
	gateway, of := split(kustomized(t, nodesDir))
	peers := func(peers []networking.NetworkPolicyPeer, pods map[string]string) bool {
		return slices.ContainsFunc(peers, func(p networking.NetworkPolicyPeer) bool {
			return p.PodSelector != nil && p.NamespaceSelector == nil && selector(t, p.PodSelector).Matches(labels.Set(pods))
		})
	}
	client, server := the[*apps.Deployment](t, gateway).Spec.Template.Labels, the[*apps.StatefulSet](t, of).Spec.Template.Labels
	out := the[*networking.NetworkPolicy](t, gateway).Spec.Egress
	if !slices.ContainsFunc(out, func(r networking.NetworkPolicyEgressRule) bool {
		return peers(r.To, server) && r.Ports[0].Port.IntVal == 4222
	}) {
		t.Error("the gateways cannot reach the servers")
	}
	open := map[int32]bool{}
	for _, rule := range the[*networking.NetworkPolicy](t, of).Spec.Ingress {
		port := rule.Ports[0].Port.IntVal
		open[port] = true
		if want := map[int32]map[string]string{4222: client, 6222: server}[port]; len(rule.From) != 1 || !peers(rule.From, want) {
			t.Errorf("the port %d is open to others", port)
		}
	}
	if !open[4222] || !open[6222] || len(open) != 2 {
		t.Errorf("open ports: %v", open)
	}
}
