package manifests

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

var (
	valuesBlock = regexp.MustCompile("(?ms)^```yaml file=(\\S+)\n(.*?)^```")
	helmCommand = regexp.MustCompile(`(?m)^helm (?:install|upgrade) (\S+) (\S+) (.*)$`)
	applied     = regexp.MustCompile(`(?m)^kubectl apply -k (\S+)$`)
	ofPages     = regexp.MustCompile("`([a-z][a-zA-Z]*\\.[a-zA-Z.]+)(?:: [^`]*)?`") // VALUE.VALUE, in prose
)

// What the pages tell a reader to type has to render.
func TestCommandsOfThePagesRender(t *testing.T) {
	commands, directories := 0, 0
	for _, page := range []string{"../README.md", filepath.Join(chartDir, "README.md")} {
		text, files := read(t, page), map[string]string{}
		for _, m := range valuesBlock.FindAllStringSubmatch(text, -1) {
			files[m[1]] = m[2]
		}
		for _, m := range helmCommand.FindAllStringSubmatch(text, -1) {
			commands++
			r := release{name: m[1]}
			if filepath.Join(repository, m[2]) != filepath.Join(repository, "deploy/helm/sluice") {
				t.Errorf("%s: there is no chart %s", page, m[2])
			}
			words := strings.Fields(m[3])
			for i := 0; i+1 < len(words); i += 2 {
				switch words[i] {
				case "--namespace":
					r.namespace = words[i+1]
				case "--set":
					r.set = append(r.set, words[i+1])
				case "--values":
					if r.values = files[words[i+1]]; r.values == "" {
						t.Errorf("%s: %s is no file of the page", page, words[i+1])
					}
				default:
					t.Errorf("%s: the flag %s of helm is not known to this test", page, words[i])
				}
			}
			newPod(t, r.objects(t)).check(t)
		}
		for _, m := range applied.FindAllStringSubmatch(text, -1) {
			directories++
			kustomized(t, filepath.Join(repository, m[1]))
		}
	}
	if commands < 3 || directories < 1 {
		t.Errorf("found %d commands of helm and %d directories", commands, directories)
	}
}

// The page names values such as `networkPolicy.clients`.
func TestValuesOnThePagesExist(t *testing.T) {
	var values map[string]any
	if err := yaml.Unmarshal([]byte(read(t, filepath.Join(chartDir, "values.yaml"))), &values); err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, m := range ofPages.FindAllStringSubmatch(read(t, "../README.md"), -1) {
		if path := strings.Split(m[1], "."); !isFile(m[1]) {
			found++
			// podSecurityContext is passed on as it is, and net begins the name of a sysctl.
			if path[0] != "podSecurityContext" && path[0] != "net" && !has(values, path) {
				t.Errorf("the chart has no value %s", m[1])
			}
		}
	}
	if found < 5 {
		t.Errorf("found %d values", found)
	}
}

// isFile reports whether a name is one of a file that the page mentions.
func isFile(name string) bool {
	for _, dir := range []string{baseDir, exampleDir, chartDir} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}
