package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"time"
)

//go:embed page
var pageFiles embed.FS

// policy lets the page load its own files, ask its own gateway (Demo), and open WebSockets and event
// streams (SSE) anywhere, because its address can be edited. Nothing else: no inline script or style,
// no frame around it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
	"connect-src 'self' ws: wss: http: https:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// contentTypes is what the page is made of. The types of package mime would depend
// on the machine.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
	".txt":  "text/plain; charset=utf-8",
	".ts":   "application/typescript; charset=utf-8",
}

// moduleNames are the client that other pages import, and its types. Pages of any origin may
// read them, as any program may: the files are public, and what admits a page's connection is
// --allowed-origins.
var moduleNames = []string{"/sluice.js", "/sluice.d.ts"}

// publishMark is the place in index.html for the address that programs publish to.
// It is an attribute that may stay empty, so that the file is a page as it stands.
const publishMark = `data-publish-url=""`

// page is the embedded page. Immutable.
type page map[string]pageFile // by path of the request

type pageFile struct {
	content     []byte
	contentType string
	etag        string
}

func newPage(publishURL string) page {
	names, err := fs.Glob(pageFiles, "page/*")
	if err != nil {
		panic(err) // the pattern is ours
	}
	p := page{}
	for _, name := range names {
		content, err := pageFiles.ReadFile(name)
		if err != nil {
			panic(err) // it was listed
		}
		base := path.Base(name)
		f := pageFile{content: content, contentType: contentTypes[path.Ext(base)]}
		if f.contentType == "" {
			panic("web: page/" + base + " has no content type: add its ending to contentTypes")
		}
		if base == "index.html" {
			f.content = withPublishURL(content, publishURL)
			base = ""
		}
		sum := sha256.Sum256(f.content)
		f.etag = `"` + hex.EncodeToString(sum[:16]) + `"`
		p["/"+base] = f
	}
	p["/index.html"] = p["/"]
	return p
}

// module returns the files that other pages import.
func (p page) module() page {
	m := page{}
	for _, name := range moduleNames {
		m[name] = p[name]
	}
	return m
}

// withPublishURL fills in the mark, escaped for an attribute in double quotes.
func withPublishURL(index []byte, publishURL string) []byte {
	if n := bytes.Count(index, []byte(publishMark)); n != 1 {
		panic(fmt.Sprintf("web: page/index.html has %s %d times, not once", publishMark, n))
	}
	filled := `data-publish-url="` + html.EscapeString(publishURL) + `"`
	return bytes.Replace(index, []byte(publishMark), []byte(filled), 1)
}

func (p page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	f, ok := p[r.URL.Path]
	if !ok {
		http.Error(w, "Not found. The page is at /.", http.StatusNotFound)
		return
	}
	if slices.Contains(moduleNames, r.URL.Path) {
		h.Set("Access-Control-Allow-Origin", "*")
	}
	h.Set("Content-Type", f.contentType)
	h.Set("ETag", f.etag)
	h.Set("Cache-Control", revalidate)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
}
