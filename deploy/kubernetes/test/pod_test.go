package manifests

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sluice/bench/child"
)

// variable returns the value of a container's variable.
func variable(t *testing.T, c core.Container, name string) string {
	t.Helper()
	i := slices.IndexFunc(c.Env, func(e core.EnvVar) bool { return e.Name == name })
	if i < 0 {
		t.Fatalf("the variable %s is not set", name)
	}
	return c.Env[i].Value
}

func seconds(t *testing.T, word string) int64 {
	t.Helper()
	d, err := time.ParseDuration(word)
	if err != nil {
		t.Fatal(err)
	}
	return int64(d / time.Second)
}

// pod is the gateway's pod on this machine: its files are below dir, and its listeners have free
// ports of loopback.
type pod struct {
	dir       string
	container core.Container
	env, args []string
	user      *syscall.Credential // nil if this is not root
}

// secrets are what a user would create. Those of the manifests have some of these keys.
func secrets(t *testing.T) map[string]string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"push.example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, data []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}))
	}
	return map[string]string{
		"api-key": apiKey, "internal.key": apiKey,
		"token-secret": strings.Repeat("5", 64), "token-secret-old": strings.Repeat("6", 64), "public.pem": encode("PUBLIC KEY", public),
		"seed": natsSeed, "user": natsUser, "nats.creds": natsSeed,
		"tls.crt": encode("CERTIFICATE", certificate), "tls.key": encode("PRIVATE KEY", private),
	}
}

// patience bounds every wait for something that comes within milliseconds.
const patience = 30 * time.Second

const apiKey = "a-key-of-the-test-with-more-than-32-bytes"

// newPod lays out the files of a Deployment's pod.
func newPod(t *testing.T, of objects) *pod {
	t.Helper()
	spec := the[*apps.Deployment](t, of).Spec.Template.Spec
	p := &pod{dir: openDirectory(t), container: spec.Containers[0]}
	if os.Getuid() == 0 {
		p.user = &syscall.Credential{Uid: uint32(*spec.SecurityContext.RunAsUser), Gid: uint32(*spec.SecurityContext.RunAsGroup),
			Groups: []uint32{uint32(*spec.SecurityContext.FSGroup)}}
	}
	for _, mount := range p.container.VolumeMounts {
		volume := spec.Volumes[slices.IndexFunc(spec.Volumes, func(v core.Volume) bool { return v.Name == mount.Name })]
		p.mount(t, of, filepath.Join(p.dir, mount.MountPath), volume)
	}
	for _, word := range p.container.Args {
		p.args = append(p.args, p.inside(word))
	}
	p.env = child.Environ()
	for _, from := range p.container.EnvFrom {
		for name, value := range named[*core.ConfigMap](t, of, from.ConfigMapRef.Name).Data {
			p.env = append(p.env, name+"="+value)
		}
	}
	for _, e := range p.container.Env {
		value := e.Value
		switch {
		case e.ValueFrom == nil:
		case e.ValueFrom.FieldRef != nil && e.ValueFrom.FieldRef.FieldPath == "metadata.name":
			value = "the-pod"
		default:
			t.Fatalf("the variable %s has a source that the kubelet of this test does not know", e.Name)
		}
		p.env = append(p.env, e.Name+"="+p.inside(value))
	}
	if natsURL(p.container) != "" || strings.Contains(p.config(t), "nats-url") {
		p.env = append(p.env, "SLUICE_NATS_URL="+serveNATS(t))
	}
	if strings.Contains(p.config(t), "jwks-url") {
		p.env = append(p.env, "SLUICE_JWKS_URL="+serveKeys(t))
	}
	return p
}

// serveKeys serves a key set, as an identity provider does, and returns its URL.
func serveKeys(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes() // 4, X, Y
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	set := fmt.Sprintf(`{"keys":[{"kty":"EC","alg":"ES256","kid":"1","crv":"P-256","x":%q,"y":%q}]}`, encode(point[1:33]), encode(point[33:]))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, set) }))
	t.Cleanup(server.Close)
	return server.URL
}

// openDirectory returns a directory that other users can reach.
func openDirectory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sluice-pod")
	if err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// mount writes a volume's files with the owner and the mode that the kubelet gives them.
func (p *pod) mount(t *testing.T, of objects, dir string, volume core.Volume) {
	t.Helper()
	files, mode := map[string]string{}, os.FileMode(0o644)
	switch {
	case volume.PersistentVolumeClaim != nil:
		p.provide(t, of, dir, volume.PersistentVolumeClaim.ClaimName)
		return
	case volume.ConfigMap != nil:
		files = named[*core.ConfigMap](t, of, volume.ConfigMap.Name).Data
	case len(volume.Secret.Items) > 0:
		mode = os.FileMode(*volume.Secret.DefaultMode)
		for _, item := range volume.Secret.Items {
			files[item.Path] = secrets(t)[item.Key]
		}
	default:
		mode = os.FileMode(*volume.Secret.DefaultMode)
		files = secrets(t)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		err := os.WriteFile(path, []byte(p.inside(text)), mode)
		if err == nil && p.user != nil {
			err = os.Chown(path, 0, int(p.user.Groups[0]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// config returns the pod's configuration file.
func (p *pod) config(t *testing.T) string {
	t.Helper()
	i := slices.Index(p.args, "--config")
	if i < 0 {
		t.Fatalf("the pod runs %q, without a configuration file", p.args)
	}
	return read(t, p.args[i+1])
}

// inside returns a text with the pod's paths where they are here.
func (p *pod) inside(text string) string {
	return strings.NewReplacer("/etc/sluice/", p.dir+"/etc/sluice/", "/var/lib/sluice/", p.dir+"/var/lib/sluice/").Replace(text)
}

// command returns the gateway with other arguments, and variables that replace the pod's.
func (p *pod) command(t *testing.T, args []string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary(t), args...)
	// This machine may have fewer file descriptors than a node.
	cmd.Env = append(append(slices.Clone(p.env), "SLUICE_MAX_CONNECTIONS=100"), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.user, Pdeathsig: syscall.SIGKILL}
	cmd.Dir = "/"
	return cmd
}

// listeners are the variables of the pod's listeners with another host and free ports.
func (p *pod) listeners(host string) (env []string) {
	for _, e := range p.container.Env {
		if strings.HasSuffix(e.Name, "_LISTEN") && e.Value != "off" {
			env = append(env, e.Name+"="+host+":0")
		}
	}
	return env
}

// settings returns the settings of a pod by name.
func (p *pod) settings(t *testing.T) map[string]any {
	t.Helper()
	cmd := p.command(t, append([]string{"config", "--json"}, p.args[1:]...))
	cmd.Env = p.env
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("sluice config: %v\n%s", err, out)
	}
	var list []struct {
		Name  string
		Value any
	}
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatal(err)
	}
	found := map[string]any{}
	for _, s := range list {
		found[s.Name] = s.Value
	}
	return found
}

// check reports what sluice check finds wrong. The addresses are ones that others can reach, as in
// the pod: then the API key is mandatory.
func (p *pod) check(t *testing.T) {
	t.Helper()
	out, err := p.command(t, append([]string{"check"}, p.args[1:]...), p.listeners("")...).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if err != nil && !strings.HasPrefix(line, "ok ") {
			t.Error(strings.TrimSpace(line))
		}
	}
	if err != nil {
		t.Errorf("sluice check: %v", err)
	}
}

func TestSettingsOfThePodAreRight(t *testing.T) {
	each(t, func(t *testing.T, of objects) {
		p := newPod(t, of)
		if p.args[0] != "serve" {
			t.Fatalf("the pod runs %q", p.args)
		}
		p.check(t)
		ports := map[string]string{"SLUICE_LISTEN": "http", "SLUICE_TLS_LISTEN": "https", "SLUICE_INTERNAL_LISTEN": "internal"}
		for _, e := range p.container.Env {
			name, isListener := ports[e.Name]
			if port := number(p.container, intstr.FromString(name)); isListener && e.Value != "off" && e.Value != fmt.Sprintf(":%d", port) {
				t.Errorf("%s is %s, and the pod's port %s is %d", e.Name, e.Value, name, port)
			}
		}
	})
}

func TestPodServesItsProbesAndServices(t *testing.T) {
	each(t, func(t *testing.T, of objects) {
		p := newPod(t, of)
		g, err := child.Start(p.command(t, p.args, p.listeners("127.0.0.1")...))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			g.Kill()
			if t.Failed() {
				t.Logf("the gateway wrote:\n%s", &g.Log)
			}
		})
		if err := g.Ready(); err != nil {
			t.Fatal(err)
		}
		addresses := map[string]string{"http": g.Public, "https": g.Secure, "internal": g.Internal}
		for _, probe := range []*core.Probe{p.container.StartupProbe, p.container.LivenessProbe, p.container.ReadinessProbe} {
			// The kubelet asks again, too: the log says "ready" before /readyz does.
			url, end := "http://"+addresses[probe.HTTPGet.Port.StrVal]+probe.HTTPGet.Path, time.Now().Add(patience)
			for status, body := get(t, url, ""); status != http.StatusOK; status, body = get(t, url, "") {
				if time.Now().After(end) {
					t.Fatalf("%s: %d %s", probe.HTTPGet.Path, status, body)
				}
				time.Sleep(10 * time.Millisecond) // between two requests
			}
		}

		// Backends publish through the internal Service, with the key.
		address := addresses[internalService(t, of).Spec.Ports[0].TargetPort.StrVal]
		if status, body := get(t, "http://"+address+"/metrics", ""); status != http.StatusUnauthorized {
			t.Errorf("metrics without the key: %d %s", status, body)
		}
		status, metrics := get(t, "http://"+address+"/metrics", apiKey)
		if status != http.StatusOK {
			t.Fatalf("metrics with the key: %d %s", status, metrics)
		}
		for _, monitor := range all[*monitoring.ServiceMonitor](of) {
			endpoint := monitor.Spec.Endpoints[0]
			if status, body := get(t, "http://"+addresses[endpoint.Port]+endpoint.Path, apiKey); status != http.StatusOK || body == "" {
				t.Errorf("the ServiceMonitor's request: %d %s", status, body)
			}
		}
		for _, scaler := range all[*autoscaling.HorizontalPodAutoscaler](of) {
			for _, metric := range scaler.Spec.Metrics {
				if !strings.Contains(metrics, "\n"+metric.Pods.Metric.Name+"{") {
					t.Errorf("the gateway has no metric %s", metric.Pods.Metric.Name)
				}
			}
		}

		// Clients, and the pod of `helm test`, come through the public one.
		service := named[*core.Service](t, of, the[*apps.Deployment](t, of).Name)
		port := service.Spec.Ports[0]
		if addresses[port.TargetPort.StrVal] == "" {
			t.Errorf("the gateway does not serve %s", port.TargetPort.StrVal)
		}
		for _, test := range all[*core.Pod](of) {
			host := fmt.Sprintf("%s:%d", service.Name, port.Port)
			args := strings.Join(test.Spec.Containers[0].Args, "\x00")
			if !strings.Contains(args, host) {
				t.Errorf("helm test runs %q, which does not name %s", args, host)
			}
			args = strings.ReplaceAll(args, host, addresses[port.TargetPort.StrVal])
			if out, err := p.command(t, strings.Split(args, "\x00")).CombinedOutput(); err != nil {
				t.Errorf("helm test: %v\n%s", err, out)
			}
		}
		if err := g.Stop(); err != nil {
			t.Errorf("after SIGTERM: %v", err)
		}
	})
}

// get requests a URL as the kubelet and Prometheus do: by the pod's address, and without Origin.
func get(t *testing.T, url, key string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "10.1.2.3:9000"
	if key != "" {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}
