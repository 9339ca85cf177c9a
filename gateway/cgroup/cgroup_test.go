package cgroup

import (
	"testing"
	"testing/fstest"
)

// tree returns a file system of these files.
func tree(files map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

func TestTheLowestLimitOnTheWayUpApplies(t *testing.T) {
	for _, tt := range []struct {
		name  string
		limit int64
		files map[string]string
	}{
		{"version 2: the process's own group", 1000, map[string]string{
			"proc/self/cgroup":             "0::/a/b\n",
			"sys/fs/cgroup/a/b/memory.max": "1000\n",
			"sys/fs/cgroup/a/memory.max":   "max\n",
		}},
		{"version 2: a group above is lower", 500, map[string]string{
			"proc/self/cgroup":             "0::/a/b\n",
			"sys/fs/cgroup/a/b/memory.max": "1000\n",
			"sys/fs/cgroup/a/memory.max":   "500\n",
		}},
		{"version 2: a group above is higher", 1000, map[string]string{
			"proc/self/cgroup":             "0::/a/b\n",
			"sys/fs/cgroup/a/b/memory.max": "1000\n",
			"sys/fs/cgroup/a/memory.max":   "5000\n",
		}},
		{"version 2: the root of a container", 700, map[string]string{
			"proc/self/cgroup":         "0::/\n",
			"sys/fs/cgroup/memory.max": "700\n",
		}},
		{"version 2: no limit", 0, map[string]string{
			"proc/self/cgroup":             "0::/a/b\n",
			"sys/fs/cgroup/a/b/memory.max": "max\n",
			"sys/fs/cgroup/a/memory.max":   "max\n",
		}},
		{"version 2: outside of its namespace", 0, map[string]string{
			"proc/self/cgroup": "0::/../../x\n",
		}},
		{"version 2: no path", 700, map[string]string{
			"proc/self/cgroup":         "0::\n",
			"sys/fs/cgroup/memory.max": "700\n",
		}},
		{"version 2: nonsense", 0, map[string]string{
			"proc/self/cgroup":           "0::/a\nnonsense\n",
			"sys/fs/cgroup/a/memory.max": "lots\n",
		}},
		{"version 1: the process's own group", 1000, map[string]string{
			"proc/self/cgroup": "12:memory:/a/b\n1:name=systemd:/c\n",
			"sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "1000\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes":   "9223372036854771712\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":     "9223372036854771712\n",
		}},
		{"version 1: a group above is lower", 500, map[string]string{
			"proc/self/cgroup": "12:memory:/a/b\n",
			"sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "1000\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes":   "500\n",
		}},
		{"version 1: a container sees its group as the root", 700, map[string]string{
			"proc/self/cgroup":                           "12:memory:/docker/0123\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "700\n",
		}},
		{"version 1: controllers of one hierarchy", 1000, map[string]string{
			"proc/self/cgroup": "3:hugetlb,memory:/a\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1000\n",
		}},
		{"version 1: no limit", 0, map[string]string{
			"proc/self/cgroup": "12:memory:/a\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "9223372036854771712\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":   "18446744073709551615\n",
		}},
		{"version 1: another controller", 0, map[string]string{
			"proc/self/cgroup": "4:cpu,cpuacct:/a\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1000\n",
		}},
		{"both: memory is in version 1", 1000, map[string]string{
			"proc/self/cgroup": "12:memory:/a\n0::/b\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1000\n",
		}},
		{"both: memory is in version 2", 1000, map[string]string{
			"proc/self/cgroup":           "1:name=systemd:/a\n0::/b\n",
			"sys/fs/cgroup/b/memory.max": "1000\n",
		}},
		{"no groups", 0, map[string]string{
			"proc/self/status": "Name: sluice\n",
		}},
	} {
		if got := Find(tree(tt.files)).Limit; got != tt.limit {
			t.Errorf("%s: limit %d, want %d", tt.name, got, tt.limit)
		}
	}
}

func TestUsedIsWithoutWhatTheKernelCanDrop(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  int64
		ok    bool
	}{
		{"version 2", map[string]string{
			"proc/self/cgroup":             "0::/a\n",
			"sys/fs/cgroup/a/memory.max":   "1000\n",
			"sys/fs/cgroup/memory.current": "999\n", "sys/fs/cgroup/a/memory.current": "990\n",
			"sys/fs/cgroup/a/memory.stat": "anon 90\nfile 900\ninactive_file 900\nactive_file 0\n",
		}, 90, true},
		{"version 1", map[string]string{
			"proc/self/cgroup": "12:memory:/a\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1000\n",
			"sys/fs/cgroup/memory/a/memory.usage_in_bytes": "990\n",
			"sys/fs/cgroup/memory/a/memory.stat":           "cache 900\ninactive_file 7\ntotal_inactive_file 900\n",
		}, 90, true},
		{"of the group that has the limit", map[string]string{
			"proc/self/cgroup":           "0::/a/b\n",
			"sys/fs/cgroup/a/memory.max": "1000\n", "sys/fs/cgroup/a/b/memory.max": "max\n",
			"sys/fs/cgroup/a/memory.current": "900\n", "sys/fs/cgroup/a/b/memory.current": "100\n",
		}, 900, true},
		{"malformed statistics", map[string]string{
			"proc/self/cgroup":               "0::/a\n",
			"sys/fs/cgroup/a/memory.max":     "1000\n",
			"sys/fs/cgroup/a/memory.current": "900\n",
			"sys/fs/cgroup/a/memory.stat":    "inactive_file much\n",
		}, 900, true},
		{"malformed usage", map[string]string{
			"proc/self/cgroup":               "0::/a\n",
			"sys/fs/cgroup/a/memory.max":     "1000\n",
			"sys/fs/cgroup/a/memory.current": "what\n",
		}, 0, false},
		{"no limit", map[string]string{"proc/self/cgroup": "0::/a\n"}, 0, false},
	} {
		if got, ok := Find(tree(tt.files)).Used(); got != tt.want || ok != tt.ok {
			t.Errorf("%s: used %d, %v, want %d, %v", tt.name, got, ok, tt.want, tt.ok)
		}
	}
}
