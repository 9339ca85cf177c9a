package ops

import (
	"io/fs"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"

	"sluice/gateway/cgroup"
)

// Memory keeps the process within its memory: Go's collector works harder as
// the limit comes near, and new connections are refused before it is reached.
type Memory struct {
	Limit  int64         // bytes, 0 for none
	cgroup cgroup.Memory // the group whose limit it is; zero for a configured one
	before int64         // Go's limit before, to go back to
	Used   atomic.Int64  // bytes, as of the last look
	Full   atomic.Bool   // new connections are refused
}

// The parts of the limit, in percent, that Go's collector aims to stay below, and
// above which new connections are refused.
const (
	memoryGo   = 90
	memoryFull = 95
)

// MemoryLimit returns the limit in bytes that applies, 0 for none: the configured one, or
// that of the group that it returns too. files is the root of the file system.
func MemoryLimit(files fs.FS, configured int64) (group cgroup.Memory, limit int64) {
	if configured != 0 {
		return group, max(configured, 0)
	}
	group = cgroup.Find(files)
	return group, group.Limit
}

// NewMemory watches what MemoryLimit returned. Where GOMEMLIMIT is set Go's limit
// stays what that says.
func NewMemory(group cgroup.Memory, limit int64) *Memory {
	w := &Memory{Limit: limit, cgroup: group, before: -1}
	if w.Limit > 0 && os.Getenv("GOMEMLIMIT") == "" {
		w.before = debug.SetMemoryLimit(w.Limit / 100 * memoryGo)
	}
	w.Look()
	return w
}

// Close gives Go's limit back.
func (w *Memory) Close() {
	if w.before >= 0 {
		debug.SetMemoryLimit(w.before)
	}
}

// Look finds out how much is used: by the cgroup whose limit applies, or else what is
// resident of this process.
func (w *Memory) Look() {
	if w.Limit <= 0 {
		return
	}
	used, ok := int64(0), false
	if w.cgroup.Limit > 0 {
		used, ok = w.cgroup.Used()
	} else {
		used, ok = Resident()
	}
	if ok {
		w.Used.Store(used)
		w.Full.Store(used >= w.Limit/100*memoryFull)
	}
}

// Resident returns the bytes of this process that are in memory.
func Resident() (bytes int64, ok bool) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, false
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err == nil
}
