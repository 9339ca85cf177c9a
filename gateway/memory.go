package gateway

import (
	"io/fs"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"

	"sluice/gateway/cgroup"
)

// A memoryWatch keeps the process within its memory: Go's collector works harder as
// the limit comes near, and new connections are refused before it is reached.
type memoryWatch struct {
	limit  int64         // bytes, 0 for none
	cgroup cgroup.Memory // the group whose limit it is; zero for a configured one
	before int64         // Go's limit before, to go back to
	used   atomic.Int64  // bytes, as of the last look
	full   atomic.Bool   // new connections are refused
}

// The parts of the limit, in percent, that Go's collector aims to stay below, and
// above which new connections are refused.
const (
	memoryGo   = 90
	memoryFull = 95
)

// memoryLimit returns the limit in bytes that applies, 0 for none: the configured one, or
// that of the group that it returns too. files is the root of the file system.
func memoryLimit(files fs.FS, configured int64) (group cgroup.Memory, limit int64) {
	if configured != 0 {
		return group, max(configured, 0)
	}
	group = cgroup.Find(files)
	return group, group.Limit
}

// newMemoryWatch watches what memoryLimit returned. Where GOMEMLIMIT is set Go's limit
// stays what that says.
func newMemoryWatch(group cgroup.Memory, limit int64) *memoryWatch {
	w := &memoryWatch{limit: limit, cgroup: group, before: -1}
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

// look finds out how much is used: by the cgroup whose limit applies, or else what is
// resident of this process.
func (w *memoryWatch) look() {
	if w.limit <= 0 {
		return
	}
	used, ok := int64(0), false
	if w.cgroup.Limit > 0 {
		used, ok = w.cgroup.Used()
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
