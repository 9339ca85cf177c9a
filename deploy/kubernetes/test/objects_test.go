package manifests

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	gatewayapi "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// objects are what one rendering consists of, in its order.
type objects []meta.Object

// kinds are the types that the manifests may contain.
var kinds = map[string]func() meta.Object{
	"v1/ConfigMap":                            func() meta.Object { return new(core.ConfigMap) },
	"v1/Namespace":                            func() meta.Object { return new(core.Namespace) },
	"v1/PersistentVolumeClaim":                func() meta.Object { return new(core.PersistentVolumeClaim) },
	"v1/Pod":                                  func() meta.Object { return new(core.Pod) },
	"v1/Service":                              func() meta.Object { return new(core.Service) },
	"apps/v1/Deployment":                      func() meta.Object { return new(apps.Deployment) },
	"apps/v1/StatefulSet":                     func() meta.Object { return new(apps.StatefulSet) },
	"autoscaling/v2/HorizontalPodAutoscaler":  func() meta.Object { return new(autoscaling.HorizontalPodAutoscaler) },
	"monitoring.coreos.com/v1/ServiceMonitor": func() meta.Object { return new(monitoring.ServiceMonitor) },
	"gateway.networking.k8s.io/v1/HTTPRoute":  func() meta.Object { return new(gatewayapi.HTTPRoute) },
	"networking.k8s.io/v1/Ingress":            func() meta.Object { return new(networking.Ingress) },
	"networking.k8s.io/v1/NetworkPolicy":      func() meta.Object { return new(networking.NetworkPolicy) },
	"policy/v1/PodDisruptionBudget":           func() meta.Object { return new(policy.PodDisruptionBudget) },
}

var separator = regexp.MustCompile(`(?m)^---\s*$`)

// decode reads the documents of a YAML text as the API server does with strict validation: an
// unknown field, a field in the wrong case or a repeated key is an error.
func decode(text string) (objects, error) {
	var found objects
	for _, document := range separator.Split(text, -1) {
		data, err := yaml.YAMLToJSONStrict([]byte(document))
		if err != nil {
			return nil, fmt.Errorf("%w in\n%s", err, document)
		}
		if string(data) == "null" { // nothing but comments
			continue
		}
		var kind meta.TypeMeta
		if err := json.UnmarshalCaseSensitivePreserveInts(data, &kind); err != nil {
			return nil, err
		}
		newObject, known := kinds[kind.APIVersion+"/"+kind.Kind]
		if !known {
			return nil, fmt.Errorf("unknown kind %s of %s", kind.Kind, kind.APIVersion)
		}
		object := newObject()
		strict, err := json.UnmarshalStrict(data, object)
		if err := errors.Join(append(strict, err)...); err != nil {
			return nil, fmt.Errorf("%s %s: %w", kind.Kind, object.GetName(), err)
		}
		found = append(found, object)
	}
	return found, nil
}

// split takes the NATS servers and what belongs to them out of a rendering.
func split(of objects) (gateway, servers objects) {
	for _, object := range of {
		if object.GetLabels()["app.kubernetes.io/name"] == "nats" {
			servers = append(servers, object)
		} else {
			gateway = append(gateway, object)
		}
	}
	return gateway, servers
}

// all returns the objects of one type.
func all[T meta.Object](of objects) (found []T) {
	for _, object := range of {
		if typed, ok := object.(T); ok {
			found = append(found, typed)
		}
	}
	return found
}

// the returns the object of a type of which there is one.
func the[T meta.Object](t *testing.T, of objects) T {
	t.Helper()
	found := all[T](of)
	if len(found) != 1 {
		t.Fatalf("there are %d objects of the type %T, want 1", len(found), *new(T))
	}
	return found[0]
}

// named returns the object of a type and a name.
func named[T meta.Object](t *testing.T, of objects, name string) T {
	t.Helper()
	found := all[T](of)
	i := slices.IndexFunc(found, func(o T) bool { return o.GetName() == name })
	if i < 0 {
		t.Fatalf("no %T is named %s", *new(T), name)
	}
	return found[i]
}

// checkNames reports names and labels that the API server would not accept.
func checkNames(t *testing.T, of objects) {
	t.Helper()
	for _, object := range of {
		what := fmt.Sprintf("%T %s", object, object.GetName())
		faults := validation.IsDNS1123Subdomain(object.GetName())
		if _, ok := object.(*core.Service); ok {
			faults = validation.IsDNS1035Label(object.GetName())
		}
		for key, value := range object.GetLabels() {
			faults = append(append(faults, validation.IsQualifiedName(key)...), validation.IsValidLabelValue(value)...)
		}
		if len(faults) > 0 {
			t.Errorf("%s: %s", what, strings.Join(faults, "; "))
		}
	}
}
