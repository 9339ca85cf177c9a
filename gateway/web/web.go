// Package web serves what a browser sees at "/": the demo page that comes with sluice, or the
// files of a directory in its place.
//
// The page is plain HTML, CSS and JavaScript in page/, embedded unchanged and held in memory.
// It loads nothing from elsewhere, and its headers forbid it to. Its one third-party file is
// centrifuge.js, a client library; see centrifuge.txt for its source.
// It works from any origin that the gateway allows, because all it needs is the
// address of the gateway.
//
// sluice.js in page/ is a client for the raw protocol. The page uses it, and pages of other
// origins can import it, whatever is served at "/".
//
// The page asks its own gateway for numbers and visitors, where [Demo] answers it.
//
// The package is apart from gateway because a directory of files and a cache's
// headers have nothing to do with connections. It does not know WebSockets: the
// page does, in the browser, and the visitors' process.
package web

import (
	"net/http"
)

// Options are the settings of New. The zero value serves the page that comes with sluice.
type Options struct {
	// Dir is a directory whose files are served instead of the page.
	Dir string
	// PublishURL is the URL of the internal listener, such as "http://127.0.0.1:9000",
	// for the page's curl example. If it is empty, the example has a placeholder.
	PublishURL string
}

// New returns a handler for GET and HEAD. It returns an error if Dir is not a readable
// directory.
func New(opt Options) (http.Handler, error) {
	if opt.Dir == "" {
		return readOnly(newPage(opt.PublishURL)), nil
	}
	d, err := newDirectory(opt.Dir)
	if err != nil {
		return nil, err
	}
	return readOnly(d), nil
}

// readOnly refuses what would change something. It also sets the headers that suit
// every file of either kind.
func readOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "Only GET and HEAD are allowed.", http.StatusMethodNotAllowed)
			return
		}
		next.ServeHTTP(w, r)
	})
}
