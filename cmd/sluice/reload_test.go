package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// configured is a gateway with files in a directory: sluice.conf, and what it names. DIR in a text stands for it.
type configured struct {
	*lineage
	dir string
}

func startConfigured(t *testing.T, files map[string]string, args ...string) *configured {
	t.Helper()
	c := &configured{dir: t.TempDir()}
	for name, text := range files {
		c.write(t, name, text)
	}
	c.lineage = startLineage(t, append([]string{"--config", filepath.Join(c.dir, "sluice.conf")}, args...)...)
	return c
}

// write replaces a file at once.
func (c *configured) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path+".new", []byte(strings.ReplaceAll(text, "DIR", c.dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestReloadChangesTheAPIKey(t *testing.T) {
	t.Parallel()
	c := startConfigured(t, map[string]string{"sluice.conf": "api-key-file = DIR/key\n", "key": "first\n"})
	try := func(key string, want int) {
		t.Helper()
		if status, answer := post(t, c.sluice, "/publish/news", key, "x"); status != want {
			t.Errorf("with the key %q: %d %v, want %d", key, status, answer, want)
		}
	}
	try("first", http.StatusOK)
	c.write(t, "key", "second\n")
	if status, answer := post(t, c.sluice, "/api/reload", "second", ""); status != http.StatusUnauthorized {
		t.Errorf("reload with a wrong key: %d %v", status, answer)
	}
	if status, answer := post(t, c.sluice, "/api/reload", "first", ""); status != http.StatusOK {
		t.Errorf("reload: %d %v", status, answer)
	}
	try("first", http.StatusUnauthorized)
	try("second", http.StatusOK)
}

// While an upgrade is under way, nothing is reloaded: the new process has read its configuration.
func TestNothingIsReloadedDuringAnUpgrade(t *testing.T) {
	t.Parallel()
	l := startPoints(t, "--insecure", "--address-rate", "off")
	l.at("hold", "")
	l.at("old.agreed", "hold")
	first := l.tryLater()
	l.reached("old.agreed", "hold")
	status, answer := post(t, l.sluice, "/api/reload", "", "")
	if status != http.StatusConflict || answer["error"].(map[string]any)["code"] != "upgrade_running" {
		t.Errorf("POST /api/reload during an upgrade: %d %v", status, answer)
	}
	l.abort()
	if err := os.Remove(filepath.Join(l.points, "hold")); err != nil {
		t.Fatal(err)
	}
	<-first // ignored: it was aborted
	if status, answer := post(t, l.sluice, "/api/reload", "", ""); status != http.StatusOK {
		t.Errorf("POST /api/reload after an upgrade: %d %v", status, answer)
	}
}
