package web

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// site makes a directory with files, something outside it, and links to both.
func site(t *testing.T) string {
	t.Helper()
	base := t.TempDir()
	root := filepath.Join(base, "site")
	files := map[string]string{
		"site/index.html":          "<p>home",
		"site/app.js":              "let x",
		"site/.env":                "KEY=1",
		"site/.git/config":         "secret",
		"site/docs/index.html":     "<p>docs",
		"site/docs/.hidden/a.html": "hidden",
		"site/bare/a b.txt":        "spaces",
		"outside.txt":              "outside",
	}
	for name, content := range files {
		name = filepath.Join(base, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{
		"inside.js": "app.js", "escape.txt": "../outside.txt", "absolute.txt": filepath.Join(base, "outside.txt"), "up": "..",
	} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(root, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestDirectoryHasTheClientUnlessItHasItsOwn(t *testing.T) {
	root := site(t)
	h, own := handler(t, Options{Dir: root}), handler(t, Options{})
	for _, name := range moduleNames {
		r := ask(t, h, "GET", name)
		if got := r.Header.Get("Access-Control-Allow-Origin"); r.StatusCode != http.StatusOK || got != "*" {
			t.Errorf("GET %s: got %d, Access-Control-Allow-Origin %q, want 200 and *", name, r.StatusCode, got)
		}
		if body(t, r) != body(t, ask(t, own, "GET", name)) {
			t.Errorf("GET %s: not the file that the page has", name)
		}
	}
	if r := ask(t, h, "GET", "/page.js"); r.StatusCode != http.StatusNotFound {
		t.Errorf("GET /page.js: got %d, want 404: the page is replaced", r.StatusCode)
	}
	if err := os.WriteFile(filepath.Join(root, "sluice.js"), []byte("let mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := body(t, ask(t, h, "GET", "/sluice.js")); got != "let mine" {
		t.Errorf("GET /sluice.js: got %q, want the directory's own", got)
	}
}

func TestDirectoryServesItsFilesAndNothingElse(t *testing.T) {
	h := handler(t, Options{Dir: site(t)})
	for target, want := range map[string]string{ // "" is 404
		"/":                    "<p>home",
		"/index.html":          "<p>home",
		"/app.js":              "let x",
		"/inside.js":           "let x",
		"/docs/":               "<p>docs",
		"/docs/index.html":     "<p>docs",
		"/bare/a%20b.txt":      "spaces",
		"/bare/":               "", // no listing
		"/bare":                "",
		"/app.js/":             "",
		"/missing":             "",
		"/.env":                "",
		"/.git/config":         "",
		"/docs/.hidden/a.html": "",
		"/docs/../.env":        "",
		"/escape.txt":          "",
		"/absolute.txt":        "",
		"/up/outside.txt":      "",
		"/../outside.txt":      "",
		"/%2e%2e/outside.txt":  "",
		"/..%2foutside.txt":    "",
		"/app.js%00":           "",
		"/pipe":                "",
	} {
		r := ask(t, h, "GET", target)
		status := http.StatusOK
		if want == "" {
			status = http.StatusNotFound
		}
		got := body(t, r)
		if r.StatusCode != status || want != "" && got != want {
			t.Errorf("GET %s: got %d %q, want %d %q", target, r.StatusCode, got, status, want)
		}
		if strings.Contains(got, "outside") || strings.Contains(got, "secret") {
			t.Errorf("GET %s shows what is not to be seen: %q", target, got)
		}
		if r.Header.Get("X-Content-Type-Options") != "nosniff" || r.Header.Get("Content-Security-Policy") != "" {
			t.Errorf("GET %s: want nosniff, and no policy: what the files load is their owner's business", target)
		}
	}
	if got := ask(t, h, "GET", "/app.js").Header.Get("Content-Type"); got != "text/javascript; charset=utf-8" {
		t.Errorf("app.js is sent as %q", got)
	}
}

func TestDirectoryWithoutItsSlashIsRedirectedRelatively(t *testing.T) {
	h := handler(t, Options{Dir: site(t)})
	r := ask(t, h, "GET", "/docs?a=1")
	if got := r.Header.Get("Location"); r.StatusCode != http.StatusMovedPermanently || got != "./docs/?a=1" {
		t.Errorf("got %d to %q, want 301 to ./docs/?a=1", r.StatusCode, got)
	}
}

func TestDirectoryCanBeSwitchedWhileItIsServed(t *testing.T) {
	base := t.TempDir()
	current := filepath.Join(base, "current")
	publish := func(version string) {
		t.Helper()
		dir, next := filepath.Join(base, version), filepath.Join(base, "next")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte(version), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(version, next); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, current); err != nil {
			t.Fatal(err)
		}
	}
	publish("one")
	h := handler(t, Options{Dir: current})
	for _, version := range []string{"two", "three"} {
		publish(version)
		if got := body(t, ask(t, h, "GET", "/")); got != version {
			t.Errorf("got %q, want %q", got, version)
		}
	}
	if err := os.Remove(current); err != nil {
		t.Fatal(err)
	}
	if r := ask(t, h, "GET", "/"); r.StatusCode != http.StatusNotFound {
		t.Errorf("a directory that is gone: got %d, want 404", r.StatusCode)
	}
}

func TestWhatIsNoDirectoryIsRefusedInWords(t *testing.T) {
	root := site(t)
	for dir, want := range map[string]string{
		filepath.Join(root, "app.js"):  "not a directory; use a directory that contains index.html",
		filepath.Join(root, "missing"): "no such file or directory; use a readable directory",
	} {
		_, err := New(Options{Dir: dir})
		if err == nil || err.Error() != "web root "+dir+": "+want {
			t.Errorf("New with %s:\n got %v\nwant web root %s: %s", dir, err, dir, want)
		}
	}
}

func TestLargeFilesHaveMoreTime(t *testing.T) {
	for size, want := range map[int64]time.Duration{
		0: fileTimeMin, 2 << 20: fileTimeMin + 32*time.Second, 1 << 40: fileTimeMax,
	} {
		if got := fileTime(size); got != want {
			t.Errorf("%d bytes have %v, want %v", size, got, want)
		}
	}
}
