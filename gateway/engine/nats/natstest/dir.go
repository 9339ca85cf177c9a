package natstest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/gateway/clienttest"
)

// Dir returns a directory for a server in this process. It is removed at the test's end, as that of
// t.TempDir is, which alone may fail: a server of which the shutdown was waited for does not wait for all of its
// own goroutines, so that files are still written and closed.
func Dir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		Closed(t, dir)
		clienttest.WaitFor(t, "the directory to be removed: "+dir, func() bool { return os.RemoveAll(dir) == nil })
	})
	return dir
}

// Closed waits until this process has no open files below a directory.
func Closed(t testing.TB, dir string) {
	t.Helper()
	clienttest.WaitFor(t, "files to be closed below "+dir, func() bool {
		fds, _ := filepath.Glob("/proc/self/fd/*") // ignored: the pattern is good
		for _, fd := range fds {
			if path, err := os.Readlink(fd); err == nil && strings.HasPrefix(path, dir+"/") { // an error: it is closed
				return false
			}
		}
		return true
	})
}
