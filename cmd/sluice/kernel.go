package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// Limits of the kernel that a gateway runs into long after it has started. They
// are read as files, so that tests can give their own. In a container some are not to
// be seen; they are the host's, and hold all the same.

// demand is what the gateway may come to need.
type demand struct {
	connections int
	asked       bool // the operator said so; else it is the most that descriptors allow, and fewer may do
	buffered    int  // bytes, --max-buffered
	pageBytes   int
}

const (
	// stormQueue is how many connections should be able to wait to be accepted:
	// the kernel's own default since Linux 5.4. More do not arrive between two turns
	// of the acceptor.
	stormQueue = 4096
	// connectionBytes is what an idle connection takes in a gateway's record and
	// the kernel's socket together (README, Figures), with some room. A cgroup counts both.
	connectionBytes = 6 << 10
)

// short is how bad it is to have room for fewer connections than demanded.
func (d demand) short() verdict {
	if d.asked {
		return isFault
	}
	return isWarning
}

// kernel adds what the kernel's limits mean for the demand.
func (f *findings) kernel(files fs.FS, d demand) {
	f.acceptQueues(files, d)
	f.descriptors(files, d)
	f.tcpMemory(files, d)
	f.conntrack(files, d)
	f.memory(files, d)
}

// acceptQueues: where connections wait that were not accepted yet. A reconnect
// storm fills them; then the kernel drops, and clients retry after a second or more.
func (f *findings) acceptQueues(files fs.FS, d demand) {
	least := min(stormQueue, d.connections)
	if queue, ok := f.sysctl(files, "net.core.somaxconn"); ok {
		f.sysctlLeast("net.core.somaxconn", queue[0], least, isWarning,
			"connections that may wait to be accepted", "a storm of reconnects overflows that and clients wait for seconds")
	}
	queue, ok := f.sysctl(files, "net.ipv4.tcp_max_syn_backlog")
	if !ok {
		return
	}
	if cookies, err := readInts(files, sysctlPath("net.ipv4.tcp_syncookies")); err == nil && cookies[0] > 0 {
		f.add(isOK, "net.ipv4.tcp_max_syn_backlog %s: with tcp_syncookies nobody is turned away for it", formatCount(queue[0]))
		return
	}
	f.sysctlLeast("net.ipv4.tcp_max_syn_backlog", queue[0], least, isWarning,
		"handshakes that may be under way", "tcp_syncookies is off, so a storm of reconnects is turned away")
}

// descriptors: the bounds of the process's limit and of the whole machine.
func (f *findings) descriptors(files fs.FS, d demand) {
	if most, ok := f.sysctl(files, "fs.nr_open"); ok {
		f.sysctlLeast("fs.nr_open", most[0], d.connections, d.short(),
			"descriptors that a process's limit can be raised to", "each connection takes one")
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
		fmt.Sprintf("files that may be open on the machine (%s are)", formatCount(inUse)), "each connection takes one")
}

// tcpMemory: tcp_mem is low, pressure and high in pages, for the buffers of all
// sockets together. Beyond pressure the kernel shrinks windows, beyond high it
// drops. A connection with something under way has a page in each direction.
func (f *findings) tcpMemory(files fs.FS, d demand) {
	pages, ok := f.sysctl(files, "net.ipv4.tcp_mem")
	if !ok {
		return
	}
	if len(pages) != 3 {
		f.add(isUnknown, "net.ipv4.tcp_mem: not three numbers")
		return
	}
	pressure, least := pages[1], 2*d.connections
	size := aboutSize(pressure * d.pageBytes)
	if pressure >= least {
		f.add(isOK, "net.ipv4.tcp_mem: buffers of all sockets may take %s before the kernel holds back", size)
		return
	}
	f.add(isWarning, "net.ipv4.tcp_mem: buffers of all sockets may take %s before the kernel holds back, less than a page each way for %s connections: when many are busy all become slow: sysctl -w net.ipv4.tcp_mem='%d %d %d'",
		size, formatCount(d.connections), least/4*3, least, least/2*3)
}

// conntrack: a firewall that tracks connections has a table for them. It is there
// only where the module is loaded.
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
	if inUse == 0 { // the module is loaded, and perhaps no rule uses it
		short = isWarning
	}
	f.sysctlLeast(name, most[0], d.connections+inUse, short,
		fmt.Sprintf("connections in the firewall's table (%s are there)", formatCount(inUse)),
		"when it is full the kernel drops new ones")
}

// memory: --max-buffered and the connections against what the process may have.
func (f *findings) memory(files fs.FS, d demand) {
	limit, who := memoryLimit(files)
	if limit == 0 {
		f.add(isUnknown, "memory: neither /proc/meminfo nor a cgroup limit can be read")
		return
	}
	all := d.buffered + d.connections*connectionBytes
	has := fmt.Sprintf("memory: %s %s", who, aboutSize(limit))
	switch {
	case limit <= d.buffered:
		f.add(isFault, "%s, no more than --max-buffered %s: the kernel kills the process before the gateway pushes back: give it more, or --max-buffered %dMiB at most",
			has, formatSize(d.buffered), max(limit/2>>20, 1))
	case limit < all:
		f.add(isWarning, "%s, less than the %s of --max-buffered %s and %s connections (about %s each): give it more, or lower --max-buffered or --max-connections",
			has, aboutSize(all), formatSize(d.buffered), formatCount(d.connections), formatSize(connectionBytes))
	default:
		f.add(isOK, "%s, enough for --max-buffered %s and %s connections", has, formatSize(d.buffered), formatCount(d.connections))
	}
}

// memoryLimit gives the least bound on this process's memory in bytes, 0 when
// none can be read, and who sets it.
func memoryLimit(files fs.FS) (limit int, who string) {
	if data, err := fs.ReadFile(files, "proc/meminfo"); err == nil {
		for line := range strings.Lines(string(data)) {
			var kib int
			if n, _ := fmt.Sscanf(line, "MemTotal: %d kB", &kib); n == 1 {
				limit, who = kib<<10, "the machine has"
			}
		}
	}
	groups, err := fs.ReadFile(files, "proc/self/cgroup")
	if err != nil {
		return limit, who
	}
	for line := range strings.Lines(string(groups)) {
		// hierarchy:controllers:path; version 2 has hierarchy 0 and no controllers.
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) != 3 {
			continue
		}
		root, name := "sys/fs/cgroup", "memory.max"
		if part[0] != "0" {
			root, name = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
			if part[1] != "memory" {
				continue
			}
		}
		// Every group above bounds those below. A container may see its own as the root.
		for group := path.Clean("/" + part[2]); ; group = path.Dir(group) {
			n, err := readInts(files, path.Join(root, group, name)) // "max" is no number
			if err == nil && n[0] > 0 && (limit == 0 || n[0] < limit) {
				limit, who = n[0], "the cgroup allows"
			}
			if group == "/" {
				break
			}
		}
	}
	return limit, who
}

// sysctlLeast judges a setting that bounds a number of things: of what, and why
// there should be at least so many.
func (f *findings) sysctlLeast(name string, got, least int, short verdict, what, why string) {
	if got >= least {
		f.add(isOK, "%s %s: %s", name, formatCount(got), what)
		return
	}
	f.add(short, "%s %s, less than %s: %s: %s: sysctl -w %s=%d", name, formatCount(got), formatCount(least), what, why, name, roundUp(least))
}

// roundUp gives the next power of two, for settings that one does not want to
// come back to.
func roundUp(n int) int {
	up := 1
	for up < n {
		up *= 2
	}
	return up
}

// sysctl reads a setting's numbers. One that cannot be read is a finding.
func (f *findings) sysctl(files fs.FS, name string) ([]int, bool) {
	n, err := readInts(files, sysctlPath(name))
	if err != nil {
		f.add(isUnknown, "%s cannot be read here: look at it on the host (sysctl %s)", name, name)
	}
	return n, err == nil
}

func sysctlPath(name string) string { return "proc/sys/" + strings.ReplaceAll(name, ".", "/") }

// readInts reads a file of numbers, at least one. A number beyond an int is the
// greatest int: the kernel writes "unlimited" so.
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
		numbers = append(numbers, n) // with an error of range, Atoi gives the nearest
	}
	if len(numbers) == 0 {
		return nil, fmt.Errorf("%s is empty", name)
	}
	return numbers, nil
}
