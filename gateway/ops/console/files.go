package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed page
var pageFiles embed.FS

// policy lets the page load its own files and ask its own host. Nothing else: no inline script or
// style, no frame around it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// contentTypes is what the page is made of. The types of package mime would depend on the machine.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
	".txt":  "text/plain; charset=utf-8",
}

// keyMark is the place in index.html that says whether there is a key to log in with.
const keyMark = `data-key="false"`

// file is a file of the page. Immutable.
type file struct {
	content     []byte
	contentType string
	etag        string
}

// loadFiles returns the page's files by the path of a request.
func loadFiles(keyed bool) map[string]file {
	names, err := fs.Glob(pageFiles, "page/*")
	if err != nil {
		panic(err) // the pattern is ours
	}
	files := map[string]file{}
	for _, name := range names {
		content, err := pageFiles.ReadFile(name)
		if err != nil {
			panic(err) // it was listed
		}
		base := path.Base(name)
		at := "/console/" + base
		f := file{content: content, contentType: contentTypes[path.Ext(base)]}
		if f.contentType == "" {
			panic("console: page/" + base + " has no content type: add its ending to contentTypes")
		}
		if base == "index.html" {
			if n := bytes.Count(content, []byte(keyMark)); n != 1 {
				panic(fmt.Sprintf("console: page/index.html has %s %d times, not once", keyMark, n))
			}
			f.content = bytes.Replace(content, []byte(keyMark), fmt.Appendf(nil, "data-key=%q", fmt.Sprint(keyed)), 1)
			at = "/"
		}
		sum := sha256.Sum256(f.content)
		f.etag = `"` + hex.EncodeToString(sum[:16]) + `"`
		files[at] = f
	}
	return files
}

// file returns the file that a request asks for. Only a browser is shown the page: programs have
// their own answer at /.
func (c *Console) file(r *http.Request) (file, bool) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return file{}, false
	}
	if r.URL.Path == "/" && !strings.Contains(r.Header.Get("Accept"), "text/html") {
		return file{}, false
	}
	f, ok := c.files[r.URL.Path]
	return f, ok
}

func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Content-Security-Policy", policy)
	h.Set("ETag", f.etag)
	h.Set("Cache-Control", "no-cache") // a browser asks each time: a new version is seen at once
	h.Set("Vary", "Accept")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
}
