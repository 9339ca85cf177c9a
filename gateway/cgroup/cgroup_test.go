package cgroup

import (
	"encoding/json"
	"os"
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

// The gateway's and the command's tests read the same trees: all must find the same limit.
func TestTheLowestLimitOnTheWayUpApplies(t *testing.T) {
	data, err := os.ReadFile("testdata/trees.json")
	if err != nil {
		t.Fatal(err)
	}
	var trees map[string]struct {
		Limit int64
		Files map[string]string
	}
	if err := json.Unmarshal(data, &trees); err != nil {
		t.Fatal(err)
	}
	for name, tt := range trees {
		if got := Find(tree(tt.Files)).Limit; got != tt.Limit {
			t.Errorf("%s: limit %d, want %d", name, got, tt.Limit)
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
