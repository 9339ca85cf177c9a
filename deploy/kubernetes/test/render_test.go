package manifests

import (
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"helm.sh/helm/v4/pkg/strvals"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// release is an installation of the chart.
type release struct {
	name, namespace string
	values          string   // the content of a values file
	set             []string // as with --set
}

// files renders the chart and returns its output by template.
func (r release) files(t *testing.T) (map[string]string, error) {
	t.Helper()
	chart, err := loader.LoadDir(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	values, err := loader.LoadValues(strings.NewReader(r.values))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range r.set {
		if err := strvals.ParseInto(s, values); err != nil {
			t.Fatalf("--set %s: %v", s, err)
		}
	}
	options := common.ReleaseOptions{Name: r.name, Namespace: r.namespace, Revision: 1, IsInstall: true}
	render, err := util.ToRenderValues(chart, values, options, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	// Strict: a template that uses a value which values.yaml does not have is an error.
	return engine.Engine{Strict: true}.RenderWithContext(t.Context(), chart, render)
}

// objects renders the chart and decodes its output.
func (r release) objects(t *testing.T) objects {
	t.Helper()
	files, err := r.files(t)
	if err != nil {
		t.Fatalf("the chart does not render: %v", err)
	}
	var found objects
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if path.Ext(name) != ".yaml" {
			continue
		}
		decoded, err := decode(files[name])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		found = append(found, decoded...)
	}
	return found
}

// kustomized builds a directory with kustomize and decodes its output.
func kustomized(t *testing.T, dir string) objects {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatalf("%s does not build: %v", dir, err)
	}
	text, err := resources.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	found, err := decode(string(text))
	if err != nil {
		t.Fatalf("%s: %v", dir, err)
	}
	return found
}
