package bench

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"sluice/bench/sys"
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
	m := Machine{Cores: runtime.NumCPU(), Go: runtime.Version()}
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease") // what is not known stays zero here, and below
	m.Kernel = strings.TrimSpace(string(release))
	m.CPU = cmp.Or(sys.Field("/proc/cpuinfo", "model name"), runtime.GOARCH)
	m.MemoryBytes, _ = sys.Bytes("/proc/meminfo", "MemTotal")
	m.Descriptors, _ = poller.DescriptorLimit()
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

// processes are the server, one process or more, watched through /proc; nil is none.
type processes []int

// watch checks that there are such processes. Zero is none.
func watch(pids ...int) (p processes, err error) {
	for _, pid := range pids {
		if pid == 0 {
			continue
		}
		one := processes{pid}
		if _, err := one.rss(); err != nil {
			return nil, fmt.Errorf("--pid %d: %w; specify the ID of the server's process on this machine", pid, err)
		}
		p = append(p, pid)
	}
	return p, nil
}

// cpu returns the CPU time used so far, zero without a process.
func (p processes) cpu() (used time.Duration) {
	for _, pid := range p {
		d, _ := sys.CPU(pid) // ignored: a server that has died shows in everything else
		used += d
	}
	return used
}

// rss returns VmRSS in bytes.
func (p processes) rss() (sum int64, err error) {
	for _, pid := range p {
		n, err := sys.Bytes(sys.Status(pid), "VmRSS")
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// slab returns the memory of the kernel's small objects, sockets among them, in
// bytes: of the whole machine.
func slab() (int64, error) { return sys.Bytes("/proc/meminfo", "Slab") }
