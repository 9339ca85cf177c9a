package console

import (
	"crypto/sha256"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
	"testing"
)

// weightMost bounds the page with everything that belongs to it, uncompressed.
const weightMost = 150_000

func TestThePageIsLight(t *testing.T) {
	total := 0
	for at, f := range loadFiles(true) {
		if at != "/console/uplot.txt" { // loaded by nobody who does not ask for it
			total += len(f.Content)
		}
	}
	if total > weightMost {
		t.Errorf("the page weighs %d bytes, which is more than %d", total, weightMost)
	}
}

func TestTheLibraryIsTheOneThatItsNoteNames(t *testing.T) {
	files := loadFiles(false)
	note := string(files["/console/uplot.txt"].Content)
	sums := regexp.MustCompile(`(?m)^sha256 ([0-9a-f]{64}) (uplot\.\w+)$`).FindAllStringSubmatch(note, -1)
	if len(sums) != 2 {
		t.Fatalf("the note has %d lines of sha256", len(sums))
	}
	for _, m := range sums {
		if got := fmt.Sprintf("%x", sha256.Sum256(files["/console/"+m[2]].Content)); got != m[1] {
			t.Errorf("%s has sha256 %s, its note says %s", m[2], got, m[1])
		}
	}
	version := regexp.MustCompile(`npm package uplot (\d+\.\d+\.\d+)`).FindStringSubmatch(note)
	if version == nil || !strings.Contains(note, "/uplot-"+version[1]+".tgz") || !strings.Contains(note, "The MIT License (MIT)\n\nCopyright (c) 2022 Leon Sorokin") {
		t.Errorf("the note has version %q, another address, or no licence", version)
	}
}

// The page must work below a proxy's path and load nothing from elsewhere.
func TestEveryFileIsFoundByItsRelativeName(t *testing.T) {
	files := loadFiles(false)
	link := regexp.MustCompile(`(?:src|href)="([^"#]+)"|(?:from |import\()"([^"]+)"`)
	linked := map[string]bool{"/": true}
	for at, f := range files {
		for _, m := range link.FindAllStringSubmatch(string(f.Content), -1) {
			target := m[1] + m[2]
			if strings.HasPrefix(target, "https://github.com/") { // a link that somebody may follow
				continue
			}
			if strings.HasPrefix(target, "/") || strings.Contains(target, ":") {
				t.Errorf("%s links to %q, which is not relative", at, target)
			}
			absolute := path.Join("/", path.Dir(at), target)
			if _, ok := files[absolute]; !ok && !strings.HasPrefix(absolute, "/api/") && !strings.HasPrefix(absolute, "/debug/") && absolute != "/metrics" {
				t.Errorf("%s links to %q: there is no %s", at, target, absolute)
			}
			linked[absolute] = true
		}
	}
	for at := range files {
		if !linked[at] {
			t.Errorf("nothing links to %s", at)
		}
	}
}

// The policy is written out once more: a weaker one is noticed.
func TestThePageLoadsAndAsksItsOwnHostOnly(t *testing.T) {
	got := serve(t, "k").ask("GET", "/", "").Header.Get("Content-Security-Policy")
	want := "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Names and payloads are written by clients.
func TestNothingIsParsedAsHTML(t *testing.T) {
	for at, f := range loadFiles(false) {
		if m := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|setHTML|createContextualFragment|DOMParser|srcdoc`).Find(f.Content); m != nil && strings.HasSuffix(at, ".js") {
			t.Errorf("%s has %s", at, m)
		}
		if m := regexp.MustCompile(`(?i)<script>|<style|\sstyle=|\son\w+=|javascript:`).Find(f.Content); m != nil && at == "/" {
			t.Errorf("%s has %s, which its policy forbids", at, m)
		}
	}
}

func TestFilesAreServedToThePageAlone(t *testing.T) {
	s := serve(t, "k")
	for _, test := range []struct {
		why, method, path string
		fields            []string
		status            int
		contentType       string
	}{
		{"typed", "GET", "/", []string{"Sec-Fetch-Site", "none"}, 200, "text/html; charset=utf-8"},
		{"a link", "GET", "/", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, 200, "text/html; charset=utf-8"},
		{"a frame", "GET", "/", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"}, 403, ""},
		{"a fetch", "GET", "/", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"}, 403, ""},
		{"a form", "POST", "/", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, 401, ""},
		{"a program", "GET", "/", []string{"Accept", "*/*"}, 401, ""},
		{"a program, a file", "GET", "/console/icon.svg", []string{"Accept", "*/*"}, 200, "image/svg+xml"},
		{"a script", "GET", "/console/uplot.js", []string{"Sec-Fetch-Site", "same-origin"}, 200, "text/javascript; charset=utf-8"},
		{"a foreign script", "GET", "/console/uplot.js", []string{"Sec-Fetch-Site", "cross-site"}, 403, ""},
		{"a link to a script", "GET", "/console/uplot.js", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, 403, ""},
		{"its other name", "GET", "/console/index.html", nil, 401, ""},
		{"no file", "GET", "/console/", nil, 401, ""},
		{"the way up", "GET", "/console/../console.go", nil, 401, ""},
		{"a change", "PUT", "/console/uplot.js", nil, 401, ""},
	} {
		resp := s.ask(test.method, test.path, "", test.fields...)
		s.wantStatus(test.why, resp, test.status)
		if got := resp.Header.Get("Content-Type"); test.status == 200 && (got != test.contentType || resp.Header.Get("Content-Security-Policy") != policy) {
			t.Errorf("%s: %q, policy %q", test.why, got, resp.Header.Get("Content-Security-Policy"))
		}
	}
	again := s.ask("GET", "/", "", "If-None-Match", s.ask("GET", "/", "").Header.Get("ETag"))
	s.wantStatus("the same again", again, 304)
	body := func(key string) string {
		b, err := io.ReadAll(serve(t, key).ask("GET", "/", "").Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if !strings.Contains(body("k"), `data-key="true"`) || !strings.Contains(body(""), `data-key="false"`) {
		t.Error("the page does not know whether there is a key")
	}
}
