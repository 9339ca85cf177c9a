package manifests

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	admission "k8s.io/pod-security-admission/api"
	podsecurity "k8s.io/pod-security-admission/policy"
	gatewayapi "sigs.k8s.io/gateway-api/apis/v1"
)

// manifests are what has to hold together, and the secrets that the user creates for them.
var manifests = []struct {
	name    string
	objects func(t *testing.T) objects
	secrets []string // NAME, or NAME/KEY where one key is used
}{
	{"base", func(t *testing.T) objects { return kustomized(t, baseDir) }, []string{"sluice-api-key/api-key"}},
	{"example", func(t *testing.T) objects { return kustomized(t, exampleDir) }, []string{"push-example-com-tls", "sluice-api-key/api-key", "sluice-tokens"}},
	{"nodes", func(t *testing.T) objects { return kustomized(t, nodesDir) }, []string{"sluice-api-key/api-key", "sluice-nats/seed"}},
	{"durable", func(t *testing.T) objects { return kustomized(t, durableDir) }, []string{"sluice-api-key/api-key"}},
	{"chart", func(t *testing.T) objects { return release{name: "sluice", namespace: "push"}.objects(t) }, []string{"sluice-api-key/api-key"}},
	{"full chart", func(t *testing.T) objects { return full(t).objects(t) }, []string{"gateway-keys/internal.key", "gateway-tls", "gateway-tokens", "push-tls", "registry"}},
	{"chart with nodes", func(t *testing.T) objects {
		return release{name: "push", namespace: "push", values: read(t, "testdata/nodes-values.yaml")}.objects(t)
	}, []string{"push-nats", "sluice-api-key/api-key"}},
	{"chart with a volume", func(t *testing.T) objects {
		return release{name: "push", namespace: "push", set: []string{"dataDir.enabled=true", "dataDir.storageClassName=fast"}}.objects(t)
	}, []string{"sluice-api-key/api-key"}},
	{"longest name", func(t *testing.T) objects {
		return release{name: strings.Repeat("long-", 10) + "end", namespace: "push"}.objects(t) // 53 characters, Helm's limit
	}, []string{"sluice-api-key/api-key"}},
	{"recreate, without extras", func(t *testing.T) objects {
		return release{name: "push", namespace: "push", set: []string{"strategy.type=Recreate", "networkPolicy.enabled=false",
			"podDisruptionBudget.enabled=false", "tests.enabled=false", "shutdown.preStopSeconds=0"}}.objects(t)
	}, []string{"sluice-api-key/api-key"}},
}

// full is an installation that uses every part of the chart.
func full(t *testing.T) release {
	t.Helper()
	return release{name: "push", namespace: "realtime", values: read(t, "testdata/full-values.yaml")}
}

// each runs a test for the gateway of each set of manifests.
func each(t *testing.T, f func(t *testing.T, of objects)) {
	for _, m := range manifests {
		t.Run(m.name, func(t *testing.T) {
			of, _ := split(m.objects(t))
			f(t, of)
		})
	}
}

func TestManifestsAreValid(t *testing.T) {
	for _, m := range manifests {
		t.Run(m.name, func(t *testing.T) { checkObjects(t, m.objects(t)) })
	}
}

func checkObjects(t *testing.T, of objects) {
	checkNames(t, of)
	seen := map[string]bool{}
	for _, object := range of {
		id := fmt.Sprintf("%T %s", object, object.GetName())
		if seen[id] {
			t.Errorf("%s exists twice", id)
		}
		seen[id] = true
		if object.GetNamespace() != of[0].GetNamespace() && id != "*v1.Namespace "+of[0].GetNamespace() && of[0].GetName() != object.GetNamespace() {
			t.Errorf("%s is in the namespace %q, another object in %q", id, object.GetNamespace(), of[0].GetNamespace())
		}
	}
}

func TestSelectorsSelectTheGatewaysPods(t *testing.T) {
	each(t, func(t *testing.T, of objects) {
		deployment := the[*apps.Deployment](t, of)
		pod := labels.Set(deployment.Spec.Template.Labels)
		matches := func(what string, selector labels.Selector) {
			t.Helper()
			if selector.Empty() || !selector.Matches(pod) {
				t.Errorf("%s selects %q, but the pods have the labels %q", what, selector, pod)
			}
			// Nothing else may be a member: a Service would send clients there.
			for _, other := range all[*core.Pod](of) {
				if selector.Matches(labels.Set(other.Labels)) {
					t.Errorf("%s also selects the pod %s", what, other.Name)
				}
			}
		}
		matches("the Deployment", selector(t, deployment.Spec.Selector))
		for _, constraint := range deployment.Spec.Template.Spec.TopologySpreadConstraints {
			matches("the constraint by "+constraint.TopologyKey, selector(t, constraint.LabelSelector))
		}
		for _, service := range all[*core.Service](of) {
			matches("the Service "+service.Name, labels.SelectorFromSet(service.Spec.Selector))
		}
		for _, budget := range all[*policy.PodDisruptionBudget](of) {
			matches("the PodDisruptionBudget", selector(t, budget.Spec.Selector))
		}
		for _, network := range all[*networking.NetworkPolicy](of) {
			matches("the NetworkPolicy", selector(t, &network.Spec.PodSelector))
		}
		for _, scaler := range all[*autoscaling.HorizontalPodAutoscaler](of) {
			want := autoscaling.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: deployment.Name}
			if diff := cmp.Diff(want, scaler.Spec.ScaleTargetRef); diff != "" {
				t.Errorf("the autoscaler's target (-want +got):\n%s", diff)
			}
			if deployment.Spec.Replicas != nil {
				t.Errorf("the Deployment has %d replicas: each installation would undo what the autoscaler did", *deployment.Spec.Replicas)
			}
		}
		for _, monitor := range all[*monitoring.ServiceMonitor](of) {
			var selected []string
			for _, service := range all[*core.Service](of) {
				if selector(t, &monitor.Spec.Selector).Matches(labels.Set(service.Labels)) {
					selected = append(selected, service.Name)
				}
			}
			if diff := cmp.Diff([]string{internalService(t, of).Name}, selected); diff != "" {
				t.Errorf("Services that the ServiceMonitor selects (-want +got):\n%s", diff)
			}
		}
	})
}

func selector(t *testing.T, s *meta.LabelSelector) labels.Selector {
	t.Helper()
	found, err := meta.LabelSelectorAsSelector(s)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// internalService returns the Service of the internal listener.
func internalService(t *testing.T, of objects) *core.Service {
	t.Helper()
	return named[*core.Service](t, of, the[*apps.Deployment](t, of).Name+"-internal")
}

func TestPortsExist(t *testing.T) {
	each(t, func(t *testing.T, of objects) {
		container := the[*apps.Deployment](t, of).Spec.Template.Spec.Containers[0]
		podPort := func(what string, port intstr.IntOrString) {
			t.Helper()
			if number(container, port) == 0 {
				t.Errorf("%s: the pod has no port %s", what, port.String())
			}
		}
		podPort("startup", container.StartupProbe.HTTPGet.Port)
		podPort("liveness", container.LivenessProbe.HTTPGet.Port)
		podPort("readiness", container.ReadinessProbe.HTTPGet.Port)
		for _, service := range all[*core.Service](of) {
			for _, port := range service.Spec.Ports {
				podPort(service.Name, port.TargetPort)
			}
		}
		open := map[int]bool{}
		for _, network := range all[*networking.NetworkPolicy](of) {
			for _, rule := range network.Spec.Ingress {
				for _, port := range rule.Ports {
					podPort("the NetworkPolicy", *port.Port)
					open[number(container, *port.Port)] = true
				}
			}
			for _, port := range container.Ports {
				if !open[int(port.ContainerPort)] {
					t.Errorf("the NetworkPolicy lets nobody reach the port %s", port.Name)
				}
			}
		}
		public := named[*core.Service](t, of, the[*apps.Deployment](t, of).Name)
		for _, ingress := range all[*networking.Ingress](of) {
			for _, rule := range ingress.Spec.Rules {
				for _, path := range rule.HTTP.Paths {
					backend := path.Backend.Service
					if backend.Name != public.Name || !hasPort(public, backend.Port.Name) {
						t.Errorf("the Ingress leads to the port %q of the Service %s, not to the public one", backend.Port.Name, backend.Name)
					}
				}
			}
		}
		for _, route := range all[*gatewayapi.HTTPRoute](of) {
			for _, rule := range route.Spec.Rules {
				for _, backend := range rule.BackendRefs {
					if string(backend.Name) != public.Name || *backend.Port != public.Spec.Ports[0].Port {
						t.Errorf("the HTTPRoute leads to the port %d of the Service %s, not to the public one", *backend.Port, backend.Name)
					}
				}
			}
		}
		for _, monitor := range all[*monitoring.ServiceMonitor](of) {
			for _, endpoint := range monitor.Spec.Endpoints {
				if !hasPort(internalService(t, of), endpoint.Port) {
					t.Errorf("the ServiceMonitor's port %q is not one of the Service", endpoint.Port)
				}
			}
		}
	})
}

// number returns the number of a container's port, or 0 if it has no such port.
func number(c core.Container, port intstr.IntOrString) int {
	for _, p := range c.Ports {
		if port.Type == intstr.String && p.Name == port.StrVal || port.Type == intstr.Int && p.ContainerPort == port.IntVal {
			return int(p.ContainerPort)
		}
	}
	return 0
}

func hasPort(service *core.Service, name string) bool {
	return slices.ContainsFunc(service.Spec.Ports, func(p core.ServicePort) bool { return p.Name == name })
}

func TestVolumesAndSecretsExist(t *testing.T) {
	for _, m := range manifests {
		t.Run(m.name, func(t *testing.T) {
			of, _ := split(m.objects(t))
			pod := the[*apps.Deployment](t, of).Spec.Template.Spec
			secrets := map[string]bool{}
			volumes, claims := map[string]bool{}, map[string]bool{}
			for _, volume := range pod.Volumes {
				volumes[volume.Name] = false
				switch {
				case volume.PersistentVolumeClaim != nil:
					claims[volume.Name] = true
				case volume.ConfigMap != nil:
					named[*core.ConfigMap](t, of, volume.ConfigMap.Name)
				case volume.Secret != nil && len(volume.Secret.Items) > 0:
					for _, item := range volume.Secret.Items {
						secrets[volume.Secret.SecretName+"/"+item.Key] = true
					}
				case volume.Secret != nil:
					secrets[volume.Secret.SecretName] = true
				}
				if secret := volume.Secret; secret != nil && (secret.DefaultMode == nil || *secret.DefaultMode&0o007 != 0) {
					t.Errorf("every user of the pod can read the volume %s", volume.Name)
				}
			}
			for _, mount := range pod.Containers[0].VolumeMounts {
				if _, ok := volumes[mount.Name]; !ok {
					t.Errorf("%s: there is no volume %s", mount.MountPath, mount.Name)
				}
				if !mount.ReadOnly && !claims[mount.Name] {
					t.Errorf("%s is writable", mount.MountPath)
				}
				volumes[mount.Name] = true
			}
			for name, mounted := range volumes {
				if !mounted {
					t.Errorf("the volume %s is not mounted", name)
				}
			}
			for _, from := range pod.Containers[0].EnvFrom {
				named[*core.ConfigMap](t, of, from.ConfigMapRef.Name)
			}
			for _, pull := range pod.ImagePullSecrets {
				secrets[pull.Name] = true
			}
			for _, ingress := range all[*networking.Ingress](of) {
				for _, tls := range ingress.Spec.TLS {
					secrets[tls.SecretName] = true
				}
			}
			for _, monitor := range all[*monitoring.ServiceMonitor](of) {
				for _, endpoint := range monitor.Spec.Endpoints {
					key := endpoint.Authorization.Credentials
					secrets[key.Name+"/"+key.Key] = true
				}
			}
			if diff := cmp.Diff(m.secrets, slices.Sorted(maps.Keys(secrets))); diff != "" {
				t.Errorf("secrets that the user has to create (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNamespacesOfChannelsKeepTheirLabel(t *testing.T) {
	each(t, func(t *testing.T, of objects) {
		for _, monitor := range all[*monitoring.ServiceMonitor](of) {
			// Prometheus renames a label that the target has, too: the namespace of the pod.
			series := map[string]string{"__name__": "sluice_namespace_channels", "namespace": "push", "exported_namespace": "chat"}
			for _, rule := range monitor.Spec.Endpoints[0].MetricRelabelConfigs {
				if rule.Action == "labeldrop" {
					delete(series, rule.Regex)
					continue
				}
				var source []string
				for _, label := range rule.SourceLabels {
					source = append(source, series[string(label)])
				}
				if found := regexp.MustCompile("^(?:" + rule.Regex + ")$").FindStringSubmatch(strings.Join(source, ";")); found != nil {
					series[rule.TargetLabel] = found[1]
				}
			}
			want := map[string]string{"__name__": "sluice_namespace_channels", "namespace": "chat"}
			if diff := cmp.Diff(want, series); diff != "" {
				t.Errorf("labels after the ServiceMonitor's rules (-want +got):\n%s", diff)
			}
		}
	})
}

// margin is what a pod has after --shutdown-timeout, for the end of the process.
const margin = 10

func TestGraceCoversTheShutdown(t *testing.T) {
	each(t, func(t *testing.T, of objects) {
		pod := the[*apps.Deployment](t, of).Spec.Template.Spec
		var sleep int64
		if lifecycle := pod.Containers[0].Lifecycle; lifecycle != nil {
			if lifecycle.PreStop.Exec != nil || lifecycle.PreStop.Sleep == nil || lifecycle.PreStop.Sleep.Seconds <= 0 {
				t.Fatalf("preStop: the image has no shell, and the API rejects a sleep of 0")
			}
			sleep = lifecycle.PreStop.Sleep.Seconds
		}
		timeout := seconds(t, variable(t, pod.Containers[0], "SLUICE_SHUTDOWN_TIMEOUT"))
		if need := sleep + timeout + margin; *pod.TerminationGracePeriodSeconds < need {
			t.Errorf("a pod has %d s to stop, and needs %d", *pod.TerminationGracePeriodSeconds, need)
		}
	})
}

// deploy/sizing.md: an idle connection costs the kernel 5 KiB, which count as the pod's memory.
func TestMemoryLimitHasRoomForSockets(t *testing.T) {
	each(t, func(t *testing.T, of objects) {
		p := newPod(t, of)
		connections, err := strconv.ParseInt(p.settings(t)["max-connections"].(string), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		heap, err := resource.ParseQuantity(strings.TrimSuffix(variable(t, p.container, "GOMEMLIMIT"), "B"))
		if err != nil {
			t.Fatal(err)
		}
		need, limit := heap.Value()+connections*5<<10, p.container.Resources.Limits.Memory().Value()
		if limit < need {
			t.Errorf("the limit is %d MiB; Go's heap and the sockets of %d connections need %d MiB", limit>>20, connections, need>>20)
		}
	})
}

// A budget that forbids every disruption keeps a node from being drained for ever.
func TestADrainIsNeverBlocked(t *testing.T) {
	each(t, func(t *testing.T, of objects) {
		for _, budget := range all[*policy.PodDisruptionBudget](of) {
			for replicas := 1; replicas <= 5; replicas++ {
				allowed, err := intstr.GetScaledValueFromIntOrPercent(budget.Spec.MaxUnavailable, replicas, true)
				if err != nil || budget.Spec.MinAvailable != nil || allowed < 1 {
					t.Errorf("of %d replicas, %d may be evicted (%v)", replicas, allowed, err)
				}
			}
			if p := budget.Spec.UnhealthyPodEvictionPolicy; p == nil || *p != policy.AlwaysAllow {
				t.Error("a pod that is not ready blocks a drain")
			}
		}
	})
}

func TestStrategyIsOneThatTheAPIAccepts(t *testing.T) {
	each(t, func(t *testing.T, of objects) {
		strategy := the[*apps.Deployment](t, of).Spec.Strategy
		switch {
		case strategy.Type == apps.RecreateDeploymentStrategyType && strategy.RollingUpdate != nil:
			t.Error("rollingUpdate beside the type Recreate")
		case strategy.Type == apps.RollingUpdateDeploymentStrategyType && strategy.RollingUpdate.MaxUnavailable.IntVal != 0:
			t.Error("the old pod stops before the new one is ready")
		}
	})
}

// The profile "restricted" is the strictest of the Pod Security Standards.
func TestPodsAreRestricted(t *testing.T) {
	evaluator, err := podsecurity.NewEvaluator(podsecurity.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := admission.LevelVersion{Level: admission.LevelRestricted, Version: admission.LatestVersion()}
	check := func(t *testing.T, name string, m meta.ObjectMeta, spec core.PodSpec) {
		t.Helper()
		for _, result := range evaluator.EvaluatePod(level, &m, &spec) {
			if !result.Allowed {
				t.Errorf("%s: %s: %s", name, result.ForbiddenReason, result.ForbiddenDetail)
			}
		}
		if spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken {
			t.Errorf("%s gets a token of the API server", name)
		}
		if spec.EnableServiceLinks == nil || *spec.EnableServiceLinks {
			t.Errorf("%s gets the variables of other services", name)
		}
		for _, container := range spec.Containers {
			if s := container.SecurityContext; s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
				t.Errorf("%s can write to its root file system", name)
			}
		}
		if spec.SecurityContext.RunAsUser == nil || *spec.SecurityContext.RunAsUser == 0 {
			t.Errorf("%s has no numeric user", name)
		}
	}
	each(t, func(t *testing.T, of objects) {
		template := the[*apps.Deployment](t, of).Spec.Template
		check(t, "the gateway", template.ObjectMeta, template.Spec)
		for _, pod := range all[*core.Pod](of) {
			check(t, pod.Name, pod.ObjectMeta, pod.Spec)
		}
	})
}
