package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"sluice/cmd/internal/cli"
	"sluice/gateway/cgroup"
	"sluice/gateway/setting"
)

// Limits of the kernel that a gateway hits long after it has started. They are read as
// files, so that tests can supply their own. In a container some are not visible: they
// are the host's, and apply all the same.

// demand is what the gateway may need at most.
type demand struct {
	connections int
	asked       bool // set by the operator; otherwise the most that file descriptors allow, and fewer may do
	buffered    int  // bytes, --max-buffered
	pageBytes   int
}

const (
	// stormQueue is how many connections should be able to wait to be accepted: the
	// kernel's default since Linux 5.4. More do not arrive between two turns of the
	// acceptor.
	stormQueue = 4096
	// connectionBytes is what an idle connection uses in the gateway and in the kernel's
	// socket together (measured, see bench/README.md), with some room. A cgroup counts both.
	connectionBytes = 6 << 10
)

// short returns how bad it is to have room for fewer connections than demanded.
func (d demand) short() verdict {
	if d.asked {
		return isFault
	}
	return isWarning
}

// kernel checks the kernel's limits against the demand.
func (f *findings) kernel(files fs.FS, d demand) {
	f.acceptQueues(files, d)
	f.descriptors(files, d)
	f.tcpMemory(files, d)
	f.conntrack(files, d)
	f.memory(files, d)
}

// acceptQueues checks the queues of connections that are not accepted yet. A reconnect
// storm fills them; then the kernel drops connections, and clients retry after a second
// or more.
func (f *findings) acceptQueues(files fs.FS, d demand) {
	least := min(stormQueue, d.connections)
	if queue, ok := f.sysctl(files, "net.core.somaxconn"); ok {
		f.sysctlLeast("net.core.somaxconn", queue[0], least, isWarning,
			"connections that can wait to be accepted", "a reconnect storm overflows the queue, and clients wait for seconds")
	}
	queue, ok := f.sysctl(files, "net.ipv4.tcp_max_syn_backlog")
	if !ok {
		return
	}
	if cookies, err := readInts(files, sysctlPath("net.ipv4.tcp_syncookies")); err == nil && cookies[0] > 0 {
		f.add(isOK, "net.ipv4.tcp_max_syn_backlog %s: not a limit while tcp_syncookies is on", cli.FormatCount(queue[0]))
		return
	}
	f.sysctlLeast("net.ipv4.tcp_max_syn_backlog", queue[0], least, isWarning,
		"TCP handshakes that can be in progress", "tcp_syncookies is off, so a reconnect storm loses connections")
}

// descriptors checks the file descriptor limits of the process and of the machine.
func (f *findings) descriptors(files fs.FS, d demand) {
	if most, ok := f.sysctl(files, "fs.nr_open"); ok {
		f.sysctlLeast("fs.nr_open", most[0], d.connections, d.short(),
			"file descriptors that a process can have", "each connection needs one")
	}
	most, ok := f.sysctl(files, "fs.file-max")
	if !ok {
		return
	}
	inUse := 0
	if nr, err := readInts(files, sysctlPath("fs.file-nr")); err == nil {
		inUse = nr[0]
	}
	f.sysctlLeast("fs.file-max", most[0], d.connections+inUse, d.short(),
		fmt.Sprintf("open files on the whole machine, %s in use", cli.FormatCount(inUse)), "each connection needs one")
}

// tcpMemory checks net.ipv4.tcp_mem: low, pressure and high in pages, for the buffers of
// all sockets together. Above pressure the kernel shrinks windows, above high it drops
// packets. A connection with data in flight has a page in each direction.
func (f *findings) tcpMemory(files fs.FS, d demand) {
	pages, ok := f.sysctl(files, "net.ipv4.tcp_mem")
	if !ok {
		return
	}
	if len(pages) != 3 {
		f.add(isUnknown, "net.ipv4.tcp_mem: expected three numbers")
		return
	}
	pressure, least := pages[1], 2*d.connections
	size := cli.AboutSize(pressure * d.pageBytes)
	if pressure >= least {
		f.add(isOK, "net.ipv4.tcp_mem: all socket buffers together can use %s before the kernel shrinks them", size)
		return
	}
	f.add(isWarning, "net.ipv4.tcp_mem: all socket buffers together can use %s before the kernel shrinks them. That is less than one page in each direction for %s connections, so all of them slow down under load; run sysctl -w net.ipv4.tcp_mem='%d %d %d'",
		size, cli.FormatCount(d.connections), least/4*3, least, least/2*3)
}

// conntrack checks the table of a firewall that tracks connections. It exists only where
// the kernel module is loaded.
func (f *findings) conntrack(files fs.FS, d demand) {
	const name = "net.netfilter.nf_conntrack_max"
	most, err := readInts(files, sysctlPath(name))
	if err != nil || most[0] == 0 { // 0: unlimited
		return
	}
	inUse := 0
	if n, err := readInts(files, sysctlPath("net.netfilter.nf_conntrack_count")); err == nil {
		inUse = n[0]
	}
	short := d.short()
	if inUse == 0 { // the module is loaded, but perhaps no rule uses it
		short = isWarning
	}
	f.sysctlLeast(name, most[0], d.connections+inUse, short,
		fmt.Sprintf("connections in the firewall's table, %s in use", cli.FormatCount(inUse)),
		"when the table is full, the kernel drops new connections")
}

// memory checks --max-buffered and the connections against the memory limit.
func (f *findings) memory(files fs.FS, d demand) {
	limit, who := memoryLimit(files)
	if limit == 0 {
		f.addAbout("memory", isUnknown, "memory: cannot read /proc/meminfo or a cgroup limit")
		return
	}
	all := d.buffered + d.connections*connectionBytes
	has := fmt.Sprintf("memory: %s %s", who, cli.AboutSize(limit))
	switch {
	case limit <= d.buffered:
		f.addAbout("memory", isFault, "%s, and --max-buffered is %s, so the kernel kills the process before the gateway applies backpressure; allow more memory, or set --max-buffered to %dMiB or less",
			has, setting.FormatSize(d.buffered), max(limit/2>>20, 1))
	case limit < all:
		f.addAbout("memory", isWarning, "%s, less than the %s needed for --max-buffered %s and %s connections (about %s each); allow more memory, or lower --max-buffered or --max-connections",
			has, cli.AboutSize(all), setting.FormatSize(d.buffered), cli.FormatCount(d.connections), setting.FormatSize(connectionBytes))
	default:
		f.addAbout("memory", isOK, "%s, enough for --max-buffered %s and %s connections", has, setting.FormatSize(d.buffered), cli.FormatCount(d.connections))
	}
}

// memoryLimit returns the lowest limit on this process's memory in bytes, 0 if none can
// be read, and what sets it.
func memoryLimit(files fs.FS) (limit int, who string) {
	if data, err := fs.ReadFile(files, "proc/meminfo"); err == nil {
		for line := range strings.Lines(string(data)) {
			var kib int
			if n, _ := fmt.Sscanf(line, "MemTotal: %d kB", &kib); n == 1 {
				limit, who = kib<<10, "the machine has"
			}
		}
	}
	if n := cgroup.Find(files).Limit; n > 0 && (limit == 0 || int(n) < limit) {
		limit, who = int(n), "the cgroup allows"
	}
	return limit, who
}

// sysctlLeast checks a setting that limits a number of things. what names the things, why
// says what happens below least.
func (f *findings) sysctlLeast(name string, got, least int, short verdict, what, why string) {
	if got >= least {
		f.add(isOK, "%s %s: %s", name, cli.FormatCount(got), what)
		return
	}
	f.add(short, "%s %s (%s) is less than %s: %s; run sysctl -w %s=%d", name, cli.FormatCount(got), what, cli.FormatCount(least), why, name, roundUp(least))
}

// roundUp returns the next power of two, so that the setting need not be raised again
// soon.
func roundUp(n int) int {
	up := 1
	for up < n {
		up *= 2
	}
	return up
}

// sysctl reads a setting's numbers. A setting that cannot be read is a finding.
func (f *findings) sysctl(files fs.FS, name string) ([]int, bool) {
	n, err := readInts(files, sysctlPath(name))
	if err != nil {
		f.add(isUnknown, "%s cannot be read here: check it on the host (sysctl %s)", name, name)
	}
	return n, err == nil
}

func sysctlPath(name string) string { return "proc/sys/" + strings.ReplaceAll(name, ".", "/") }

// readInts reads a file of one or more numbers. A number that does not fit an int becomes
// the greatest int: the kernel writes "unlimited" that way.
func readInts(files fs.FS, name string) ([]int, error) {
	data, err := fs.ReadFile(files, name)
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, field := range strings.Fields(string(data)) {
		n, err := strconv.Atoi(field)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			return nil, fmt.Errorf("%s: %q is not a number", name, field)
		}
		numbers = append(numbers, n) // with a range error, Atoi returns the nearest int
	}
	if len(numbers) == 0 {
		return nil, fmt.Errorf("%s is empty", name)
	}
	return numbers, nil
}
