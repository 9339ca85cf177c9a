// Package cgroup reads the memory limit that control groups (cgroups(7)), version 1 or 2,
// set for this process, and how much of it is used.
//
// It is a package of its own because two programs must see the same limit: the gateway,
// which keeps below it, and `sluice check`, which compares it with the settings.
//
// It does not know what a limit is good for, and caches nothing: a caller reads Used as
// often as it needs it.
package cgroup

import (
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A version is where the kernel shows memory limits.
type version struct {
	root  string // of the hierarchy, below the root of the file system
	limit string // the group's limit in bytes; applies to all groups below it
	usage string // bytes used by the group and those below it
	cache string // key in memory.stat: page cache that the kernel would drop first
}

var (
	v1 = version{"sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"}
	v2 = version{"sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"}
)

// unlimited is the least number that means no limit. Version 1 has no word for that: it
// shows the greatest number of bytes in whole pages.
const unlimited = 1 << 60

// Memory is the control group whose memory limit applies to a process.
type Memory struct {
	// Limit is in bytes. 0 means that no group has a limit, or that none can be read.
	Limit int64

	files   fs.FS
	dir     string
	version version
}

// Find returns the group with the lowest memory limit among this process's groups and all
// groups above them. files is the root of the file system. A container may see its own
// group as the root, whatever its path is.
func Find(files fs.FS) Memory {
	var lowest Memory
	membership, err := fs.ReadFile(files, "proc/self/cgroup")
	if err != nil {
		return lowest
	}
	for line := range strings.Lines(string(membership)) {
		// hierarchy:controllers:path; version 2 has hierarchy 0 and no controllers.
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) != 3 {
			continue
		}
		v := v2
		if part[0] != "0" {
			if v = v1; !slices.Contains(strings.Split(part[1], ","), "memory") {
				continue
			}
		}
		for group := path.Clean("/" + part[2]); ; group = path.Dir(group) {
			dir := path.Join(v.root, group)
			n, ok := number(files, path.Join(dir, v.limit))
			if ok && 0 < n && n < unlimited && (lowest.Limit == 0 || n < lowest.Limit) {
				lowest = Memory{Limit: n, files: files, dir: dir, version: v}
			}
			if group == "/" {
				break
			}
		}
	}
	return lowest
}

// Used returns how many bytes the kernel counts against the limit, buffers of sockets
// among them (with version 2), less what it can drop at once. ok reports whether that can
// be read.
func (m Memory) Used() (bytes int64, ok bool) {
	if m.files == nil {
		return 0, false
	}
	if bytes, ok = number(m.files, path.Join(m.dir, m.version.usage)); !ok {
		return 0, false
	}
	stat, err := fs.ReadFile(m.files, path.Join(m.dir, "memory.stat"))
	if err != nil {
		return bytes, true
	}
	for line := range strings.Lines(string(stat)) {
		if key, value, _ := strings.Cut(strings.TrimSpace(line), " "); key == m.version.cache {
			n, _ := strconv.ParseInt(value, 10, 64) // 0 if malformed: nothing to subtract
			return bytes - n, true
		}
	}
	return bytes, true
}

// number reads a file that holds one number. ok is false for "max" and if there is no file.
func number(files fs.FS, name string) (n int64, ok bool) {
	text, err := fs.ReadFile(files, name)
	if err != nil {
		return 0, false
	}
	n, err = strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil
}
