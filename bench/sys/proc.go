package sys

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Field returns the value of the first line "name: value" of a file of /proc, "" without one.
func Field(file, name string) string {
	text, _ := os.ReadFile(file) // ignored: then it has no such line
	for line := range strings.Lines(string(text)) {
		if k, v, _ := strings.Cut(line, ":"); strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// Bytes returns the value of a line such as "VmRSS:   1234 kB" in bytes.
func Bytes(file, name string) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimSuffix(Field(file, name), " kB"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s has no %s", file, name)
	}
	return n << 10, nil
}

// Status is the file with a process's memory: VmRSS and, as its peak, VmHWM.
func Status(pid int) string { return fmt.Sprintf("/proc/%d/status", pid) }

// ListenOverflows counts the connects of this network namespace so far that found a full backlog,
// of any program; 0 where the kernel does not report it.
func ListenOverflows() (n int64) {
	text, _ := os.ReadFile("/proc/net/netstat") // ignored: see above
	var names []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if i := slices.Index(names, "ListenOverflows"); i >= 0 && i < len(fields) {
			n, _ = strconv.ParseInt(fields[i], 10, 64) // ignored: the kernel writes numbers
			return n
		}
		names = fields
	}
	return 0
}
