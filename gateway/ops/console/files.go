package console

import (
	"embed"
	"fmt"
	"net/http"
	"strings"

	"sluice/gateway/asset"
)

//go:embed page
var pageFiles embed.FS

// policy lets the page load its own files and ask its own host. Nothing else: no inline script or
// style, no frame around it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// keyMark is the place in index.html that says whether there is a key to log in with.
const keyMark = `data-key="false"`

// loadFiles returns the page's files by the path of a request.
func loadFiles(keyed bool) map[string]asset.File {
	files := map[string]asset.File{}
	for name, f := range asset.Load(pageFiles, "page", keyMark, fmt.Sprintf("data-key=%q", fmt.Sprint(keyed))) {
		files["/console/"+name] = f
	}
	files["/"] = files["/console/index.html"]
	delete(files, "/console/index.html")
	return files
}

// file returns the file that a request asks for. Only a browser is shown the page: programs have
// their own answer at /.
func (c *Console) file(r *http.Request) (asset.File, bool) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return asset.File{}, false
	}
	if r.URL.Path == "/" && !strings.Contains(r.Header.Get("Accept"), "text/html") {
		return asset.File{}, false
	}
	f, ok := c.files[r.URL.Path]
	return f, ok
}

// serveFile answers with a file of the page.
func serveFile(f asset.File, w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Security-Policy", policy)
	w.Header().Set("Vary", "Accept")
	f.Serve(w, r)
}
