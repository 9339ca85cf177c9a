package web

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"sluice/gateway/asset"
)

// directory serves the files below a directory: no listings, no name that begins
// with a dot, nothing that a symbolic link reaches outside. It is opened anew for
// each request: a path that is a symbolic link, switched to a new version while the
// gateway runs, shows the new one. The module is served where the directory has no
// file of that name.
type directory struct {
	name   string
	module page
}

func newDirectory(name string) (directory, error) {
	info, err := os.Stat(name)
	if err == nil && !info.IsDir() {
		return directory{}, fmt.Errorf("web root %s: not a directory; use a directory that contains index.html", name)
	}
	if err == nil {
		var root *os.Root
		if root, err = os.OpenRoot(name); err == nil {
			root.Close() // ignored: it was opened to see that it can be
		}
	}
	if err != nil {
		if inner := new(fs.PathError); errors.As(err, &inner) {
			err = inner.Err // the name is said already
		}
		return directory{}, fmt.Errorf("web root %s: %w; use a readable directory", name, err)
	}
	return directory{name: name, module: newPage("").module()}, nil
}

func (d directory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", asset.Revalidate)
	if err := d.serve(w, r); err != nil {
		if _, ok := d.module[r.URL.Path]; ok {
			d.module.ServeHTTP(w, r)
			return
		}
		// Whatever the reason: nobody learns that a file exists but cannot be read.
		w.Header().Del("Cache-Control")
		http.NotFound(w, r)
	}
}

var errHidden = errors.New("not served")

// serve answers the request, or says why it did not.
func (d directory) serve(w http.ResponseWriter, r *http.Request) error {
	name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
	if hidden(name) {
		return errHidden
	}
	if name == "" {
		name = "."
	}
	root, err := os.OpenRoot(d.name)
	if err != nil {
		return err
	}
	defer root.Close() // ignored: nothing was written

	info, err := root.Stat(name) // before opening: to open a pipe would wait for its writer
	if err != nil {
		return err
	}
	slash := strings.HasSuffix(r.URL.Path, "/")
	if info.IsDir() {
		name = path.Join(name, "index.html")
		if info, err = root.Stat(name); err != nil {
			return err
		}
		if !slash && r.URL.Path != "" {
			redirectToDirectory(w, r)
			return nil
		}
	} else if slash {
		return errHidden
	}
	if !info.Mode().IsRegular() {
		return errHidden
	}
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close() // ignored: nothing was written
	// A large file may take longer than the server gives an answer; it is not to keep
	// one of its places forever.
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(fileTime(info.Size()))) // ignored: the server's own time counts then
	http.ServeContent(w, r, name, info.ModTime(), f)
	return nil
}

// A file has fileTimeMin and what fileRate bytes a second take, at most fileTimeMax.
const (
	fileTimeMin = 10 * time.Second
	fileTimeMax = 2 * time.Minute
	fileRate    = 64 << 10
)

func fileTime(size int64) time.Duration {
	return min(fileTimeMin+time.Duration(size/fileRate)*time.Second, fileTimeMax)
}

// hidden reports whether an element of the path begins with a dot.
func hidden(name string) bool {
	for element := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(element, ".") {
			return true
		}
	}
	return false
}

// redirectToDirectory adds the slash without which the page's relative links would
// miss. The address is relative, because a proxy may have taken a prefix off.
func redirectToDirectory(w http.ResponseWriter, r *http.Request) {
	target := "./" + url.PathEscape(path.Base(r.URL.Path)) + "/"
	if r.URL.RawQuery != "" {
		target += "?" + r.URL.RawQuery
	}
	w.Header().Set("Location", target)
	w.WriteHeader(http.StatusMovedPermanently)
}
