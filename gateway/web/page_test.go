package web

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func handler(t *testing.T, opt Options) http.Handler {
	t.Helper()
	h, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// ask sends a request; fields are pairs of a header's name and value.
func ask(t *testing.T, h http.Handler, method, target string, fields ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestPageIsServedWithItsTypes(t *testing.T) {
	h := handler(t, Options{})
	for target, want := range map[string]string{
		"/":                    "text/html; charset=utf-8",
		"/index.html":          "text/html; charset=utf-8",
		"/?channel=news":       "text/html; charset=utf-8",
		"/page.js":             "text/javascript; charset=utf-8",
		"/page.css":            "text/css; charset=utf-8",
		"/icon.svg":            "image/svg+xml",
		"/centrifuge.js":       "text/javascript; charset=utf-8",
		"/centrifuge.txt":      "text/plain; charset=utf-8",
		"/sluice.js":           "text/javascript; charset=utf-8",
		"/sluice.d.ts":         "application/typescript; charset=utf-8",
		"/page":                "",
		"/page/":               "",
		"/page/page.js":        "",
		"/web.go":              "",
		"//page.js":            "",
		"/../page.js":          "",
		"/page.js/":            "",
		"/suite/chat.test.mjs": "",
	} {
		r := ask(t, h, "GET", target)
		if want == "" {
			if got := body(t, r); r.StatusCode != http.StatusNotFound || got != "Not found. The page is at /.\n" {
				t.Errorf("GET %s: got %d %q, want 404 that says where the page is", target, r.StatusCode, got)
			}
			continue
		}
		if got := r.Header.Get("Content-Type"); r.StatusCode != http.StatusOK || got != want || body(t, r) == "" {
			t.Errorf("GET %s: got %d %s, want 200 %s and a body", target, r.StatusCode, got, want)
		}
	}
}

// The page must work below a proxy's path and load nothing from elsewhere.
func TestEveryFileOfThePageIsFoundByItsRelativeName(t *testing.T) {
	h := handler(t, Options{})
	link := regexp.MustCompile(`(?:src|href)="([^"#]+)"|(?:from |import\(|self-types=)"([^"]+)"`)
	linked := map[string]bool{"/index.html": true, "/": true, "/sluice.js": true} // the last is for other pages
	for name := range newPage("") {
		for _, m := range link.FindAllStringSubmatch(body(t, ask(t, h, "GET", name)), -1) {
			target := m[1] + m[2]
			if strings.HasPrefix(target, "/") || strings.Contains(target, ":") {
				t.Errorf("%s links to %q, which is not relative", name, target)
			}
			absolute := path.Join("/", target)
			if r := ask(t, h, "GET", absolute); r.StatusCode != http.StatusOK {
				t.Errorf("%s links to %q: got %d", name, target, r.StatusCode)
			}
			linked[absolute] = true
		}
	}
	for name := range newPage("") {
		if !linked[name] {
			t.Errorf("nothing links to %s", name)
		}
	}
}

// The library is somebody else's: it is the file that its page says it is, and its
// licences are with it.
func TestTheLibraryIsTheOneThatItsNoteNames(t *testing.T) {
	h := handler(t, Options{})
	note := body(t, ask(t, h, "GET", "/centrifuge.txt"))
	sum := regexp.MustCompile(`(?m)^sha256 ([0-9a-f]{64})$`).FindStringSubmatch(note)
	if sum == nil {
		t.Fatal("centrifuge.txt has no line of sha256")
	}
	if got := fmt.Sprintf("%x", sha256.Sum256([]byte(body(t, ask(t, h, "GET", "/centrifuge.js"))))); got != sum[1] {
		t.Errorf("centrifuge.js has sha256 %s, its note says %s", got, sum[1])
	}
	version := regexp.MustCompile(`npm package centrifuge (\d+\.\d+\.\d+)`).FindStringSubmatch(note)
	if version == nil || !strings.Contains(note, "/centrifuge-"+version[1]+".tgz") {
		t.Fatalf("centrifuge.txt does not say which version it is, or names another: %q", version)
	}
	if !strings.Contains(body(t, ask(t, h, "GET", "/")), `<a href="centrifuge.txt">`+version[1]+`</a>`) {
		t.Errorf("the page does not name version %s", version[1])
	}
	for _, holder := range []string{"Centrifugal Labs LTD", "Joyent, Inc.", "Dmitry Chestnykh"} {
		if !strings.Contains(note, holder) {
			t.Errorf("centrifuge.txt has no licence of %s", holder)
		}
	}
}

func TestHeadersForbidWhatThePageDoesNotNeed(t *testing.T) {
	h := handler(t, Options{})
	for _, target := range []string{"/", "/page.js", "/nothing"} {
		r := ask(t, h, "GET", target)
		got := map[string]string{}
		for _, name := range []string{"Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy"} {
			got[name] = r.Header.Get(name)
		}
		want := map[string]string{
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
				"connect-src 'self' ws: wss: http: https:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
			"X-Content-Type-Options": "nosniff",
			"Referrer-Policy":        "no-referrer",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("GET %s: headers (-want +got):\n%s", target, diff)
		}
	}
}

func TestPagesOfAnyOriginCanImportTheClientAndNothingElse(t *testing.T) {
	h := handler(t, Options{})
	for name := range newPage("") {
		want := ""
		if name == "/sluice.js" || name == "/sluice.d.ts" {
			want = "*"
		}
		r := ask(t, h, "GET", name, "Origin", "https://app.example.com")
		if got := r.Header.Get("Access-Control-Allow-Origin"); r.StatusCode != http.StatusOK || got != want {
			t.Errorf("GET %s: got %d, Access-Control-Allow-Origin %q, want 200 and %q", name, r.StatusCode, got, want)
		}
		again := ask(t, h, "GET", name, "Origin", "https://app.example.com", "If-None-Match", r.Header.Get("ETag"))
		if got := again.Header.Get("Access-Control-Allow-Origin"); again.StatusCode != http.StatusNotModified || got != want {
			t.Errorf("GET %s again: got %d, Access-Control-Allow-Origin %q, want 304 and %q", name, again.StatusCode, got, want)
		}
	}
}

func TestOnlyReadingIsAllowed(t *testing.T) {
	for _, opt := range []Options{{}, {Dir: t.TempDir()}} {
		h := handler(t, opt)
		for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "PATCH"} {
			r := ask(t, h, method, "/")
			if r.StatusCode != http.StatusMethodNotAllowed || r.Header.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s / of %+v: got %d, Allow %q", method, opt, r.StatusCode, r.Header.Get("Allow"))
			}
		}
	}
	get, head := ask(t, handler(t, Options{}), "GET", "/page.js"), ask(t, handler(t, Options{}), "HEAD", "/page.js")
	if diff := cmp.Diff(get.Header, head.Header); diff != "" || body(t, head) != "" {
		t.Errorf("HEAD differs from GET (-GET +HEAD), or has a body:\n%s", diff)
	}
}

func TestPageIsSentAgainOnlyWhenItHasChanged(t *testing.T) {
	h := handler(t, Options{PublishURL: "http://127.0.0.1:9000"})
	r := ask(t, h, "GET", "/")
	tag := r.Header.Get("ETag")
	if tag == "" || r.Header.Get("Cache-Control") != "no-cache" {
		t.Fatalf("ETag %q, Cache-Control %q", tag, r.Header.Get("Cache-Control"))
	}
	if r := ask(t, h, "GET", "/", "If-None-Match", tag); r.StatusCode != http.StatusNotModified || body(t, r) != "" {
		t.Errorf("the same again: got %d, want 304 without a body", r.StatusCode)
	}
	other := handler(t, Options{PublishURL: "http://127.0.0.1:9001"})
	if r := ask(t, other, "GET", "/", "If-None-Match", tag); r.StatusCode != http.StatusOK {
		t.Errorf("another address in the page: got %d, want 200", r.StatusCode)
	}
}

func TestPublishURLStaysInItsAttribute(t *testing.T) {
	for given, want := range map[string]string{
		"":                         `data-publish-url=""`,
		"http://127.0.0.1:9000":    `data-publish-url="http://127.0.0.1:9000"`,
		`http://h/"><script>x&'$1`: `data-publish-url="http://h/&#34;&gt;&lt;script&gt;x&amp;&#39;$1"`,
	} {
		if got := body(t, ask(t, handler(t, Options{PublishURL: given}), "GET", "/")); !strings.Contains(got, want) {
			t.Errorf("PublishURL %q: the page does not have %s", given, want)
		}
	}
}
