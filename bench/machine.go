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
	d, _ := sys.CPU(p.pid) // ignored: a server that has died shows in everything else
	return d
}

// rss returns VmRSS in bytes.
func (p *process) rss() (int64, error) {
	return sys.Bytes(sys.Status(p.pid), "VmRSS")
}

// slab returns the memory of the kernel's small objects, sockets among them, in
// bytes: of the whole machine.
func slab() (int64, error) { return sys.Bytes("/proc/meminfo", "Slab") }
