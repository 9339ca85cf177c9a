package manifests

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The chart with its defaults and the base of kustomize are one set of manifests, written twice.
func TestChartAndKustomizeAgree(t *testing.T) {
	base, chart := kustomized(t, baseDir), release{name: "sluice"}.objects(t)
	want, got := newPod(t, base).settings(t), newPod(t, chart).settings(t)
	for _, settings := range []map[string]any{want, got} { // in directories of their own
		for name, value := range settings {
			if path, ok := value.(string); ok && strings.Contains(path, "/etc/sluice/") {
				settings[name] = path[strings.Index(path, "/etc/sluice/"):]
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-kustomize +chart):\n%s", diff)
	}
	if diff := cmp.Diff(plain(t, base), plain(t, chart)); diff != "" {
		t.Errorf("objects (-kustomize +chart):\n%s", diff)
	}
}

// plain returns objects by kind and name, without what only one of the two tools adds. The files
// of ConfigMaps are left out: they are compared as settings.
func plain(t *testing.T, of objects) map[string]meta.Object {
	t.Helper()
	found := map[string]meta.Object{}
	for _, object := range of {
		maps.DeleteFunc(object.GetLabels(), func(key, _ string) bool {
			return slices.Contains([]string{"helm.sh/chart", "app.kubernetes.io/managed-by"}, key)
		})
		switch object := object.(type) {
		case *core.Pod: // of helm test
			continue
		case *core.ConfigMap:
			object.Name, object.Data = "sluice", nil
		case *apps.Deployment:
			template := &object.Spec.Template
			delete(template.Annotations, "checksum/config")
			if len(template.Annotations) == 0 {
				template.Annotations = nil
			}
			for _, volume := range template.Spec.Volumes {
				if volume.ConfigMap != nil {
					named[*core.ConfigMap](t, of, volume.ConfigMap.Name) // before the hash is cut off
					volume.ConfigMap.Name = "sluice"
				}
			}
		}
		found[fmt.Sprintf("%T %s", object, object.GetName())] = object
	}
	return found
}
