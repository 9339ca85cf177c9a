package doctor

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// machine is a kernel whose limits are wide; changes override its files, and
// "absent" removes one.
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
			"warning net.core.somaxconn 128 (connections that can wait to be accepted) is less than 4,096: a reconnect storm overflows the queue, and clients wait for seconds; run sysctl -w net.core.somaxconn=4096"}},
		{"a short queue is long enough for few", few, map[string]string{"proc/sys/net/core/somaxconn": "128"}, nil},
		{"a short queue of handshakes", asked, map[string]string{"proc/sys/net/ipv4/tcp_max_syn_backlog": "512"}, []string{
			"warning net.ipv4.tcp_max_syn_backlog 512 (TCP handshakes that can be in progress) is less than 4,096: tcp_syncookies is off, so a reconnect storm loses connections; run sysctl -w net.ipv4.tcp_max_syn_backlog=4096"}},
		{"a short queue of handshakes with cookies", asked, map[string]string{
			"proc/sys/net/ipv4/tcp_max_syn_backlog": "512", "proc/sys/net/ipv4/tcp_syncookies": "1"}, nil},
		{"few descriptors, as many connections as fit", wide, map[string]string{"proc/sys/fs/nr_open": "4096"}, []string{
			"warning fs.nr_open 4,096 (file descriptors that a process can have) is less than 10,000: each connection needs one; run sysctl -w fs.nr_open=16384"}},
		{"few descriptors, more asked for", asked, map[string]string{"proc/sys/fs/nr_open": "4096"}, []string{
			"fault fs.nr_open 4,096 (file descriptors that a process can have) is less than 10,000: each connection needs one; run sysctl -w fs.nr_open=16384"}},
		{"few files", asked, map[string]string{"proc/sys/fs/file-max": "10100"}, []string{
			"fault fs.file-max 10,100 (open files on the whole machine, 500 in use) is less than 10,500: each connection needs one; run sysctl -w fs.file-max=16384"}},
		{"little TCP memory", million, map[string]string{
			"proc/meminfo": "MemTotal: 33554432 kB", "proc/sys/net/netfilter/nf_conntrack_max": "absent"}, []string{
			"warning net.ipv4.tcp_mem: all socket buffers together can use 1.5GiB before the kernel shrinks them. That is less than one page in each direction for 1,000,000 connections, so all of them slow down under load; run sysctl -w net.ipv4.tcp_mem='1500000 2000000 3000000'"}},
		{"a small table of the firewall", wide, map[string]string{"proc/sys/net/netfilter/nf_conntrack_max": "10000"}, []string{
			"warning net.netfilter.nf_conntrack_max 10,000 (connections in the firewall's table, 44 in use) is less than 10,044: when the table is full, the kernel drops new connections; run sysctl -w net.netfilter.nf_conntrack_max=16384"}},
		{"a small table that is in use", asked, map[string]string{"proc/sys/net/netfilter/nf_conntrack_max": "10000"}, []string{
			"fault net.netfilter.nf_conntrack_max 10,000 (connections in the firewall's table, 44 in use) is less than 10,044: when the table is full, the kernel drops new connections; run sysctl -w net.netfilter.nf_conntrack_max=16384"}},
		{"a small table that may not be in use", asked, map[string]string{
			"proc/sys/net/netfilter/nf_conntrack_max": "8192", "proc/sys/net/netfilter/nf_conntrack_count": "0"}, []string{
			"warning net.netfilter.nf_conntrack_max 8,192 (connections in the firewall's table, 0 in use) is less than 10,000: when the table is full, the kernel drops new connections; run sysctl -w net.netfilter.nf_conntrack_max=16384"}},
		{"a table of the firewall without a bound", wide, map[string]string{"proc/sys/net/netfilter/nf_conntrack_max": "0"}, nil},
		{"no firewall", asked, map[string]string{"proc/sys/net/netfilter/nf_conntrack_max": "absent"}, nil},
		{"a small cgroup", wide, map[string]string{"sys/fs/cgroup/system.slice/sluice.service/memory.max": "268435456"}, []string{
			"fault memory: the cgroup allows 256MiB, and --max-buffered is 512MiB, so the kernel kills the process before the gateway applies backpressure; allow more memory, or set --max-buffered to 128MiB or less"}},
		{"a cgroup that is small for the connections", wide, map[string]string{"sys/fs/cgroup/system.slice/memory.max": "545259520"}, []string{
			"warning memory: the cgroup allows 520MiB, less than the 570.6MiB needed for --max-buffered 512MiB and 10,000 connections (about 6KiB each); allow more memory, or lower --max-buffered or --max-connections"}},
		{"a container that sees its cgroup as the root", wide, map[string]string{
			"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "134217728"}, []string{
			"fault memory: the cgroup allows 128MiB, and --max-buffered is 512MiB, so the kernel kills the process before the gateway applies backpressure; allow more memory, or set --max-buffered to 64MiB or less"}},
		{"a cgroup of version 1", wide, map[string]string{
			"proc/self/cgroup": "9:cpu:/a\n4:memory:/docker/x\n0::/\n", "sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes": "134217728",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"}, []string{
			"fault memory: the cgroup allows 128MiB, and --max-buffered is 512MiB, so the kernel kills the process before the gateway applies backpressure; allow more memory, or set --max-buffered to 64MiB or less"}},
		{"a small machine", wide, map[string]string{"proc/meminfo": "MemTotal: 489012 kB"}, []string{
			"fault memory: the machine has 477.6MiB, and --max-buffered is 512MiB, so the kernel kills the process before the gateway applies backpressure; allow more memory, or set --max-buffered to 238MiB or less"}},
		{"what a container does not show", asked, map[string]string{
			"proc/sys/net/ipv4/tcp_mem": "absent", "proc/meminfo": "absent", "proc/sys/fs/nr_open": "no number"}, []string{
			"unknown fs.nr_open cannot be read here: check it on the host (sysctl fs.nr_open)",
			"unknown net.ipv4.tcp_mem cannot be read here: check it on the host (sysctl net.ipv4.tcp_mem)",
			"unknown memory: cannot read /proc/meminfo or a cgroup limit"}},
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
	const want = `ok       net.core.somaxconn 4,096: connections that can wait to be accepted
ok       net.ipv4.tcp_max_syn_backlog 4,096: TCP handshakes that can be in progress
ok       fs.nr_open 1,048,576: file descriptors that a process can have
ok       fs.file-max 9,223,372,036,854,775,807: open files on the whole machine, 500 in use
ok       net.ipv4.tcp_mem: all socket buffers together can use 1.5GiB before the kernel shrinks them
ok       net.netfilter.nf_conntrack_max 262,144: connections in the firewall's table, 44 in use
ok       memory: the machine has 16GiB, enough for --max-buffered 512MiB and 10,000 connections
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestCheckFindsTheCgroupLimitThatTheGatewayKeeps(t *testing.T) {
	files := fstest.MapFS{"proc/self/cgroup": {Data: []byte("0::/a\n")}}
	if got, who := memoryLimit(files); got != 0 || who == "the cgroup allows" {
		t.Errorf("without a limit %s %d", who, got)
	}
	files["sys/fs/cgroup/a/memory.max"] = &fstest.MapFile{Data: []byte("1000\n")}
	if got, who := memoryLimit(files); got != 1000 || who != "the cgroup allows" {
		t.Errorf("%s %d, want 1000 that the cgroup allows", who, got)
	}
}

func TestCheckOfMemoryKnowsTheLimit(t *testing.T) {
	const mib = 1 << 20
	tests := []struct {
		name                    string
		limit, buffered, wanted int
		want                    string
	}{
		{"none", 0, 512 * mib, 512 * mib, "ok memory: the machine has 16GiB, enough for --max-buffered 512MiB and 100 connections"},
		{"enough", 2048 * mib, 512 * mib, 512 * mib, "ok memory: --memory-limit 2GiB is enough for --max-buffered 512MiB and 100 connections"},
		{"lowered", 300 * mib, 150 * mib, 512 * mib, "warning memory: --memory-limit 300MiB is enough for --max-buffered 150MiB (lowered from 512MiB) and 100 connections"},
		{"little", 32 * mib, 32 * mib, 32 * mib, "warning memory: --memory-limit 32MiB is less than the 32.6MiB needed for --max-buffered 32MiB and 100 connections (about 6KiB each); raise it, or lower --max-buffered or --max-connections"},
		{"more than there is", 20480 * mib, 512 * mib, 512 * mib, "warning --memory-limit 20GiB is too high: the machine has 16GiB, so the kernel kills the process before new connections are refused; lower the limit"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var f findings
			d := demand{connections: 100, buffered: tt.buffered, pageBytes: 4096}
			f.memory(machine(nil), d)
			f.memoryUnder(machine(nil), d, tt.limit, tt.wanted)
			last := f[len(f)-1]
			if got := last.verdict.String() + " " + last.text; got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}
