package gateway

import (
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
)

// A memoryWatch keeps the process within its memory: Go's collector works harder as
// the limit comes near, and new connections are refused before it is reached.
type memoryWatch struct {
	limit  int64        // bytes, 0 for none
	cgroup string       // directory of the cgroup whose limit it is, "" for one that was given
	before int64        // Go's limit before, to go back to
	used   atomic.Int64 // bytes, as of the last look
	full   atomic.Bool  // new connections are refused
}

// The parts of the limit, in percent, that Go's collector aims to stay below, and
// above which new connections are refused.
const (
	memoryGo   = 90
	memoryFull = 95
)

// memoryLimit returns the limit in bytes that holds for a configured one: 0 for none. When
// it is a cgroup's, that is the directory.
func memoryLimit(configured int64) (cgroup string, limit int64) {
	if configured != 0 {
		return "", max(configured, 0)
	}
	return cgroupLimit("/proc/self/cgroup", "/sys/fs/cgroup")
}

// newMemoryWatch watches what memoryLimit has found. Where GOMEMLIMIT is set Go's limit
// stays what that says.
func newMemoryWatch(cgroup string, limit int64) *memoryWatch {
	w := &memoryWatch{limit: limit, cgroup: cgroup, before: -1}
	if w.limit > 0 && os.Getenv("GOMEMLIMIT") == "" {
		w.before = debug.SetMemoryLimit(w.limit / 100 * memoryGo)
	}
	w.look()
	return w
}

// close gives Go's limit back.
func (w *memoryWatch) close() {
	if w.before >= 0 {
		debug.SetMemoryLimit(w.before)
	}
}

// look finds out how much is used. Of a cgroup that is what the kernel would count
// against it, sockets' buffers among it, less what it can drop at once; else what is
// resident of this process.
func (w *memoryWatch) look() {
	if w.limit <= 0 {
		return
	}
	used, ok := int64(0), false
	if w.cgroup != "" {
		used, ok = number(path.Join(w.cgroup, "memory.current"))
		used -= inactiveFile(path.Join(w.cgroup, "memory.stat"))
	} else if text, err := os.ReadFile("/proc/self/statm"); err == nil {
		if fields := strings.Fields(string(text)); len(fields) > 1 {
			pages, err := strconv.ParseInt(fields[1], 10, 64)
			used, ok = pages*int64(os.Getpagesize()), err == nil
		}
	}
	if ok {
		w.used.Store(used)
		w.full.Store(used >= w.limit/100*memoryFull)
	}
}

// cgroupLimit finds the directory with the lowest memory limit among the process's
// cgroup (version 2, cgroups(7)) and those above it.
func cgroupLimit(membership, root string) (dir string, limit int64) {
	text, err := os.ReadFile(membership)
	if err != nil {
		return "", 0
	}
	for line := range strings.Lines(string(text)) {
		group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
			continue
		}
		for ; ; group = path.Dir(group) {
			at := path.Join(root, group)
			if n, ok := number(path.Join(at, "memory.max")); ok && (limit == 0 || n < limit) {
				dir, limit = at, n
			}
			if group == "/" || group == "." {
				return dir, limit
			}
		}
	}
	return "", 0
}

// number reads a file that holds one number; false for "max" and where there is none.
func number(file string) (int64, bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil
}

// inactiveFile returns what a cgroup has of the page cache and would drop first.
func inactiveFile(file string) int64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "inactive_file "); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(value), 10, 64) // 0 for what is no number
			return n
		}
	}
	return 0
}
