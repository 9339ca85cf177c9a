package web

import (
	"embed"
	"html"
	"net/http"
	"slices"

	"sluice/gateway/asset"
)

//go:embed page
var pageFiles embed.FS

// policy lets the page load its own files, ask its own gateway (Demo), and open WebSockets and event
// streams (SSE) anywhere, because its address can be edited. Nothing else: no inline script or style,
// no frame around it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
	"connect-src 'self' ws: wss: http: https:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// moduleNames are the client that other pages import, and its types. Pages of any origin may
// read them, as any program may: the files are public, and what admits a page's connection is
// --allowed-origins.
var moduleNames = []string{"/sluice.js", "/sluice.d.ts"}

// publishMark is the place in index.html for the address that programs publish to.
// It is an attribute that may stay empty, so that the file is a page as it stands.
const publishMark = `data-publish-url=""`

// page is the embedded page. Immutable.
type page map[string]asset.File // by path of the request

func newPage(publishURL string) page {
	p := page{}
	for name, f := range asset.Load(pageFiles, "page", publishMark, `data-publish-url="`+html.EscapeString(publishURL)+`"`) {
		p["/"+name] = f
	}
	p["/"] = p["/index.html"]
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
	f.Serve(w, r)
}
