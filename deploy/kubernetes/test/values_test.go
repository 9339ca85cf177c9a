package manifests

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"
)

func TestWrongValuesAreErrors(t *testing.T) {
	for _, test := range []struct{ set, want string }{
		{"replica=2", "additional properties 'replica' not allowed"},
		{"image.tga=v1", "additional properties 'tga' not allowed"},
		{"image.digest=sha256:12", "/image/digest"},
		{"settings.Max-Message=1", "'Max-Message' does not match pattern"},
		{"settings.raw.publish=true", "/settings/raw"},
		{"goMemLimit=1Gi", "/goMemLimit"}, // Kubernetes' spelling, not Go's
		{"podDisruptionBudget.maxUnavailable=0", "/podDisruptionBudget/maxUnavailable"},
		{"shutdown.timeoutSeconds=30s", "/shutdown/timeoutSeconds"},
		{"apiKey.existingSecret=", "/apiKey/existingSecret"},
		{"settings.listen=:80", "settings.listen: the chart sets it itself, from service"},
		{"settings.api-key-file=/key", "from apiKey"},
		{"settings.shutdown-timeout=60s", "from shutdown.timeoutSeconds"},
		{"ingress.enabled=true", "ingress.enabled: set settings.trusted-proxies"},
		{"httpRoute.enabled=true", "httpRoute.enabled: set settings.trusted-proxies"},
		{"ingress.enabled=true,settings.trusted-proxies=10.0.0.0/8", "ingress.hosts"},
		{"httpRoute.enabled=true,settings.proxy-protocol=10.0.0.0/8", "httpRoute.parentRefs"},
		{"settings.jwks-url=https://id.example.com/keys", "networkPolicy.egress"},
		{"nats.url=nats://nats:4222", "nats.url: with networkPolicy.enabled, it needs networkPolicy.egress"},
		{"nats.url=nats://user:password@nats:4222", "/nats/url"}, // everybody who can list Deployments would see it
		{"settings.nats-url=nats://nats:4222", "from nats.url"},
		{"settings.data-dir=/data", "from dataDir"},
		{"dataDir.size=10GiB", "/dataDir/size"}, // the gateway's spelling, not Kubernetes'
		{"dataDir.enabled=true,replicas=2", "the volume belongs to one replica"},
		{"dataDir.enabled=true,autoscaling.enabled=true", "the volume belongs to one replica"},
		{"dataDir.enabled=true,nats.url=nats://nats:4222", "either on a volume or on the servers"},
	} {
		_, err := release{name: "sluice", set: []string{test.set}}.files(t)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("--set %s: %v, want an error with %q", test.set, err, test.want)
		}
	}
}

// Helm reads on and off as booleans and numbers as floats. The gateway must read what was written.
func TestSettingsKeepTheirValues(t *testing.T) {
	want := map[string]any{
		"raw": "publish", "page": "off", "tls-self-signed": "off", "max-connections": "1000000", "max-buffered": "1GiB",
		"trusted-proxies": "10.0.0.0/8,fd00::/8", "allowed-origins": "https://app.example.com,https://*.example.org",
		"greeting": `hello # "world"`, "slow-policy": "prices.*=skip",
		// From variables: extraEnv, extraEnvFrom and the chart's own.
		"log-level": "debug", "max-channels": "200000", "shutdown-timeout": "60s",
	}
	p := newPod(t, full(t).objects(t))
	settings, got := p.settings(t), map[string]any{}
	for name := range want {
		got[name] = settings[name]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	if files, _ := settings["token-hmac-secret-file"].(string); strings.Count(files, ",") != 1 {
		t.Errorf("HMAC secrets: %q, want two", files)
	}
}

// What values.yaml does not have, nobody finds; what the schema does not have, is refused; what no
// template uses, has no effect.
func TestEveryValueIsDocumentedAndUsed(t *testing.T) {
	var schema property
	if err := json.Unmarshal([]byte(read(t, filepath.Join(chartDir, "values.schema.json"))), &schema); err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := yaml.UnmarshalStrict([]byte(read(t, filepath.Join(chartDir, "values.yaml"))), &values); err != nil {
		t.Fatal(err)
	}
	inSchema := schema.paths("")
	delete(inSchema, "global")     // Helm's own
	delete(inSchema, "namespaces") // a file's content
	delete(inSchema, "namespaces.namespaces")
	delete(inSchema, "namespaces.without_namespace")
	inValues := map[string]bool{}
	for path := range inSchema {
		if has(values, strings.Split(path, ".")) {
			inValues[path] = true
		}
	}
	if diff := cmp.Diff(inSchema, inValues); diff != "" {
		t.Errorf("values of the schema that are not in values.yaml:\n%s", diff)
	}

	templates := ""
	err := filepath.WalkDir(filepath.Join(chartDir, "templates"), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			templates += read(t, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range slices.Sorted(maps.Keys(inSchema)) {
		first, rest, nested := strings.Cut(path, ".")
		used := regexp.MustCompile(`\.Values\.` + regexp.QuoteMeta(path) + `\b`).MatchString(templates)
		if nested && !used { // in a template that is all about the group
			used = regexp.MustCompile(`with \.Values\.`+first+` `).MatchString(templates) && regexp.MustCompile(`[ (]\.`+rest+`\b`).MatchString(templates)
		}
		if whole := regexp.MustCompile(`toYaml (\$strategy|\.Values\.` + first + ` )`); !used && !whole.MatchString(templates) {
			t.Errorf("no template uses %s", path)
		}
	}
}

// property is a part of a JSON schema.
type property struct {
	Properties map[string]property
}

// paths returns the paths of the properties that have none below them.
func (p property) paths(prefix string) map[string]bool {
	found := map[string]bool{}
	for name, below := range p.Properties {
		if len(below.Properties) == 0 {
			found[prefix+name] = true
		}
		maps.Copy(found, below.paths(prefix+name+"."))
	}
	return found
}

// has reports whether there is a value at a path.
func has(values map[string]any, path []string) bool {
	value, ok := values[path[0]]
	if below, isMap := value.(map[string]any); ok && len(path) > 1 {
		return isMap && has(below, path[1:])
	}
	return ok
}

// A changed setting leads to a new pod, unless the pod is to reload it.
func TestChangedSettingsReplaceThePod(t *testing.T) {
	checksum := func(set ...string) string {
		of := release{name: "sluice", set: set}.objects(t)
		return the[*apps.Deployment](t, of).Spec.Template.Annotations["checksum/config"]
	}
	if before := checksum(); before == checksum("settings.history=200") || before == checksum("namespaces.without_namespace.presence=true") {
		t.Error("the pod's checksum stays the same")
	}
	for _, on := range []string{"true", "on"} { // a bare on is a bool in a values file
		if sum := checksum("settings.reload-on-change=" + on); sum != "" {
			t.Errorf("with reload-on-change = %s, there is a new pod nonetheless", on)
		}
	}
	if checksum("settings.reload-on-change=off") == "" {
		t.Error("with reload-on-change = off, a changed setting has no effect")
	}
}

func TestNotesFitTheValues(t *testing.T) {
	for _, test := range []struct{ name, set, with, without string }{
		{"default", "", "create secret generic sluice-api-key", "WARNING"},
		{"replicas", "replicas=2", "WARNING: without nats.url", "<no value>"},
		{"autoscaling", "autoscaling.enabled=true", "WARNING: without nats.url", "<no value>"},
		{"nodes", "replicas=3,nats.url=nats://nats:4222,networkPolicy.enabled=false", "curl", "WARNING"},
		{"proxies", "settings.trusted-proxies=10.0.0.0/8", "curl", "all clients count as"},
	} {
		files, err := release{name: "sluice", namespace: "push", set: []string{test.set}}.files(t)
		if err != nil {
			t.Fatal(err)
		}
		if notes := files["sluice/templates/NOTES.txt"]; !strings.Contains(notes, test.with) || strings.Contains(notes, test.without) {
			t.Errorf("%s: want %q and not %q in\n%s", test.name, test.with, test.without, notes)
		}
	}
}

// With a list of clients, the pod of `helm test` is one more.
func TestNetworkPolicyLetsHelmTestIn(t *testing.T) {
	of := full(t).objects(t)
	test := all[*core.Pod](of)[0]
	for _, peer := range the[*networking.NetworkPolicy](t, of).Spec.Ingress[0].From {
		if peer.PodSelector != nil && peer.NamespaceSelector == nil && peer.PodSelector.MatchLabels["app.kubernetes.io/name"] == test.Labels["app.kubernetes.io/name"] {
			return
		}
	}
	t.Error("helm test cannot reach the gateway")
}
