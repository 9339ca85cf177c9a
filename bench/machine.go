package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/poller"
)

// Machine describes where a run took place. Do not compare figures of different machines.
type Machine struct {
	Kernel      string `json:"kernel"`
	CPU         string `json:"cpu"`
	Cores       int    `json:"cores"`
	MemoryBytes int64  `json:"memory_bytes"`
	Go          string `json:"go"`
	Descriptors int    `json:"nofile"`
	Commit      string `json:"commit,omitempty"`
	Modified    bool   `json:"modified,omitempty"` // built from a tree that differs from Commit
}

// ThisMachine describes this machine and this program.
func ThisMachine() Machine {
	m := Machine{Cores: runtime.NumCPU(), Go: runtime.Version(), CPU: runtime.GOARCH}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(b))
	}
	if v, ok := field("/proc/cpuinfo", "model name"); ok {
		m.CPU = v
	}
	if n, err := kilobytes("/proc/meminfo", "MemTotal"); err == nil {
		m.MemoryBytes = n
	}
	m.Descriptors, _ = poller.DescriptorLimit() // zero: not known
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				m.Commit = s.Value
			case "vcs.modified":
				m.Modified = s.Value == "true"
			}
		}
	}
	return m
}

// process is the server, watched through /proc; nil is none.
type process struct{ pid int }

// watch checks that there is such a process. Zero is none.
func watch(pid int) (*process, error) {
	if pid == 0 {
		return nil, nil
	}
	p := &process{pid}
	if _, err := p.rss(); err != nil {
		return nil, fmt.Errorf("--pid %d: %w; specify the ID of the server's process on this machine", pid, err)
	}
	return p, nil
}

// cpu returns the CPU time used so far, zero without a process.
func (p *process) cpu() time.Duration {
	if p == nil {
		return 0
	}
	d, _ := poller.ProcessCPU(p.pid) // ignored: a server that has died shows in everything else
	return d
}

// rss returns VmRSS in bytes.
func (p *process) rss() (int64, error) {
	return kilobytes(fmt.Sprintf("/proc/%d/status", p.pid), "VmRSS")
}

// slab returns the memory of the kernel's small objects, sockets among them, in
// bytes: of the whole machine.
func slab() (int64, error) { return kilobytes("/proc/meminfo", "Slab") }

// listenOverflows counts the connects of this network namespace so far that found
// a full backlog (TcpExt ListenOverflows).
func listenOverflows() (n int64, ok bool) {
	b, err := os.ReadFile("/proc/net/netstat")
	if err != nil {
		return 0, false
	}
	var names []string
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != "TcpExt:" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		if i := slices.Index(names, "ListenOverflows"); i >= 0 && i < len(fields) {
			n, err = strconv.ParseInt(fields[i], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// kilobytes reads a line such as "VmRSS:   1234 kB" and returns bytes.
func kilobytes(file, name string) (int64, error) {
	v, ok := field(file, name)
	if !ok {
		return 0, fmt.Errorf("%s has no %s", file, name)
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(v, " kB"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %s: %w", file, name, err)
	}
	return n << 10, nil
}

// field reads the value of the first line "name: value" of a file of /proc.
func field(file, name string) (string, bool) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", false
	}
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		if k, v, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v), true
		}
	}
	return "", false
}
