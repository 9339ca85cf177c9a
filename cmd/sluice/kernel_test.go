package main

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// machine is a kernel whose limits are wide; changes override its files, and
// "absent" takes one away.
func machine(changes map[string]string) fstest.MapFS {
	files := fstest.MapFS{}
	for name, text := range map[string]string{
		"proc/sys/net/core/somaxconn":                          "4096\n",
		"proc/sys/net/ipv4/tcp_max_syn_backlog":                "4096\n",
		"proc/sys/net/ipv4/tcp_syncookies":                     "0\n",
		"proc/sys/fs/nr_open":                                  "1048576\n",
		"proc/sys/fs/file-max":                                 "9223372036854775807\n",
		"proc/sys/fs/file-nr":                                  "500\t0\t9223372036854775807\n",
		"proc/sys/net/ipv4/tcp_mem":                            "287901\t383868\t575802\n",
		"proc/sys/net/netfilter/nf_conntrack_max":              "262144\n",
		"proc/sys/net/netfilter/nf_conntrack_count":            "44\n",
		"proc/meminfo":                                         "MemTotal:       16777216 kB\nMemFree: 1 kB\n",
		"proc/self/cgroup":                                     "0::/system.slice/sluice.service\n",
		"sys/fs/cgroup/system.slice/sluice.service/memory.max": "max\n",
	} {
		files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	for name, text := range changes {
		files[name] = &fstest.MapFile{Data: []byte(text)}
		if text == "absent" {
			delete(files, name)
		}
	}
	return files
}

func TestKernelLimits(t *testing.T) {
	wide := demand{connections: 10_000, buffered: 512 << 20, pageBytes: 4096}
	asked := wide
	asked.asked = true
	million := demand{connections: 1_000_000, buffered: 512 << 20, pageBytes: 4096}
	few := demand{connections: 100, asked: true, buffered: 16 << 20, pageBytes: 4096}
	tests := []struct {
		name    string
		demand  demand
		changes map[string]string
		want    []string // whatever is not ok
	}{
		{"wide", asked, nil, nil},
		{"a short queue", asked, map[string]string{"proc/sys/net/core/somaxconn": "128"}, []string{
			"warning net.core.somaxconn 128, less than 4,096: connections that may wait to be accepted: a storm of reconnects overflows that and clients wait for seconds: sysctl -w net.core.somaxconn=4096"}},
		{"a short queue is long enough for few", few, map[string]string{"proc/sys/net/core/somaxconn": "128"}, nil},
		{"a short queue of handshakes", asked, map[string]string{"proc/sys/net/ipv4/tcp_max_syn_backlog": "512"}, []string{
			"warning net.ipv4.tcp_max_syn_backlog 512, less than 4,096: handshakes that may be under way: tcp_syncookies is off, so a storm of reconnects is turned away: sysctl -w net.ipv4.tcp_max_syn_backlog=4096"}},
		{"a short queue of handshakes with cookies", asked, map[string]string{
			"proc/sys/net/ipv4/tcp_max_syn_backlog": "512", "proc/sys/net/ipv4/tcp_syncookies": "1"}, nil},
		{"few descriptors, as many connections as fit", wide, map[string]string{"proc/sys/fs/nr_open": "4096"}, []string{
			"warning fs.nr_open 4,096, less than 10,000: descriptors that a process's limit can be raised to: each connection takes one: sysctl -w fs.nr_open=16384"}},
		{"few descriptors, more asked for", asked, map[string]string{"proc/sys/fs/nr_open": "4096"}, []string{
			"fault fs.nr_open 4,096, less than 10,000: descriptors that a process's limit can be raised to: each connection takes one: sysctl -w fs.nr_open=16384"}},
		{"few files", asked, map[string]string{"proc/sys/fs/file-max": "10100"}, []string{
			"fault fs.file-max 10,100, less than 10,500: files that may be open on the machine (500 are): each connection takes one: sysctl -w fs.file-max=16384"}},
		{"little TCP memory", million, map[string]string{
			"proc/meminfo": "MemTotal: 33554432 kB", "proc/sys/net/netfilter/nf_conntrack_max": "absent"}, []string{
			"warning net.ipv4.tcp_mem: buffers of all sockets may take 1.5GiB before the kernel holds back, less than a page each way for 1,000,000 connections: when many are busy all become slow: sysctl -w net.ipv4.tcp_mem='1500000 2000000 3000000'"}},
		{"a small table of the firewall", wide, map[string]string{"proc/sys/net/netfilter/nf_conntrack_max": "10000"}, []string{
			"warning net.netfilter.nf_conntrack_max 10,000, less than 10,044: connections in the firewall's table (44 are there): when it is full the kernel drops new ones: sysctl -w net.netfilter.nf_conntrack_max=16384"}},
		{"a small table that is in use", asked, map[string]string{"proc/sys/net/netfilter/nf_conntrack_max": "10000"}, []string{
			"fault net.netfilter.nf_conntrack_max 10,000, less than 10,044: connections in the firewall's table (44 are there): when it is full the kernel drops new ones: sysctl -w net.netfilter.nf_conntrack_max=16384"}},
		{"a small table that may not be in use", asked, map[string]string{
			"proc/sys/net/netfilter/nf_conntrack_max": "8192", "proc/sys/net/netfilter/nf_conntrack_count": "0"}, []string{
			"warning net.netfilter.nf_conntrack_max 8,192, less than 10,000: connections in the firewall's table (0 are there): when it is full the kernel drops new ones: sysctl -w net.netfilter.nf_conntrack_max=16384"}},
		{"a table of the firewall without a bound", wide, map[string]string{"proc/sys/net/netfilter/nf_conntrack_max": "0"}, nil},
		{"no firewall", asked, map[string]string{"proc/sys/net/netfilter/nf_conntrack_max": "absent"}, nil},
		{"a small cgroup", wide, map[string]string{"sys/fs/cgroup/system.slice/sluice.service/memory.max": "268435456"}, []string{
			"fault memory: the cgroup allows 256MiB, no more than --max-buffered 512MiB: the kernel kills the process before the gateway pushes back: give it more, or --max-buffered 128MiB at most"}},
		{"a cgroup that is small for the connections", wide, map[string]string{"sys/fs/cgroup/system.slice/memory.max": "545259520"}, []string{
			"warning memory: the cgroup allows 520MiB, less than the 570.6MiB of --max-buffered 512MiB and 10,000 connections (about 6KiB each): give it more, or lower --max-buffered or --max-connections"}},
		{"a container that sees its cgroup as the root", wide, map[string]string{
			"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "134217728"}, []string{
			"fault memory: the cgroup allows 128MiB, no more than --max-buffered 512MiB: the kernel kills the process before the gateway pushes back: give it more, or --max-buffered 64MiB at most"}},
		{"a cgroup of version 1", wide, map[string]string{
			"proc/self/cgroup": "9:cpu:/a\n4:memory:/docker/x\n0::/\n", "sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes": "134217728",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"}, []string{
			"fault memory: the cgroup allows 128MiB, no more than --max-buffered 512MiB: the kernel kills the process before the gateway pushes back: give it more, or --max-buffered 64MiB at most"}},
		{"a small machine", wide, map[string]string{"proc/meminfo": "MemTotal: 489012 kB"}, []string{
			"fault memory: the machine has 477.6MiB, no more than --max-buffered 512MiB: the kernel kills the process before the gateway pushes back: give it more, or --max-buffered 238MiB at most"}},
		{"what a container does not show", asked, map[string]string{
			"proc/sys/net/ipv4/tcp_mem": "absent", "proc/meminfo": "absent", "proc/sys/fs/nr_open": "no number"}, []string{
			"unknown fs.nr_open cannot be read here: look at it on the host (sysctl fs.nr_open)",
			"unknown net.ipv4.tcp_mem cannot be read here: look at it on the host (sysctl net.ipv4.tcp_mem)",
			"unknown memory: neither /proc/meminfo nor a cgroup limit can be read"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var found findings
			found.kernel(machine(tt.changes), tt.demand)
			var got []string
			for _, one := range found {
				if one.verdict != isOK {
					got = append(got, one.verdict.String()+" "+one.text)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestKernelLimitsThatHoldAreToldToo(t *testing.T) {
	var found findings
	found.kernel(machine(nil), demand{connections: 10_000, buffered: 512 << 20, pageBytes: 4096})
	var out strings.Builder
	if err := found.print(&out); err != nil {
		t.Fatal(err)
	}
	const want = `ok       net.core.somaxconn 4,096: connections that may wait to be accepted
ok       net.ipv4.tcp_max_syn_backlog 4,096: handshakes that may be under way
ok       fs.nr_open 1,048,576: descriptors that a process's limit can be raised to
ok       fs.file-max 9,223,372,036,854,775,807: files that may be open on the machine (500 are)
ok       net.ipv4.tcp_mem: buffers of all sockets may take 1.5GiB before the kernel holds back
ok       net.netfilter.nf_conntrack_max 262,144: connections in the firewall's table (44 are there)
ok       memory: the machine has 16GiB, enough for --max-buffered 512MiB and 10,000 connections
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}
