// Package asset holds the files of a page that is embedded in the binary: unchanged but for one
// mark, in memory, and with what a browser needs to keep them. The page at / and the operator's page
// share it; neither could import the other.
package asset

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"time"
)

// types are those of the files. The types of package mime would depend on the machine.
var types = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".ts":   "application/typescript; charset=utf-8",
	".svg":  "image/svg+xml",
	".txt":  "text/plain; charset=utf-8",
}

// File is one file. Immutable.
type File struct {
	Content     []byte
	contentType string
	etag        string
}

// Load returns the files of a directory of files by name. In index.html, mark is replaced by
// filled: an attribute that may stay as it is, so that the file is a page as it stands. A file of
// an unknown type and a mark that is not there once are faults of the program: Load panics.
func Load(files fs.FS, dir, mark, filled string) map[string]File {
	entries, err := fs.ReadDir(files, dir)
	if err != nil {
		panic(err) // it is embedded
	}
	all := make(map[string]File, len(entries))
	for _, e := range entries {
		content, err := fs.ReadFile(files, path.Join(dir, e.Name()))
		if err != nil {
			panic(err) // it was listed
		}
		if e.Name() == "index.html" {
			if n := bytes.Count(content, []byte(mark)); n != 1 {
				panic(fmt.Sprintf("asset: %s/index.html has %s %d times, not once", dir, mark, n))
			}
			content = bytes.Replace(content, []byte(mark), []byte(filled), 1)
		}
		sum := sha256.Sum256(content)
		f := File{Content: content, contentType: types[path.Ext(e.Name())], etag: `"` + hex.EncodeToString(sum[:16]) + `"`}
		if f.contentType == "" {
			panic("asset: " + dir + "/" + e.Name() + " has no content type: add its ending to types")
		}
		all[e.Name()] = f
	}
	return all
}

// Revalidate is the Cache-Control with which a browser asks each time, so that a new version is
// seen at once; what has not changed costs a 304.
const Revalidate = "no-cache"

// Serve answers with the file.
func (f File) Serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("ETag", f.etag)
	h.Set("Cache-Control", Revalidate)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.Content))
}
