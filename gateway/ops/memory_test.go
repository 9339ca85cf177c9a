package ops

import (
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
)

func TestMemoryLimitIsTheCgroupsUnlessConfigured(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{"proc/self/cgroup": {Data: []byte("0::/a\n")}, "sys/fs/cgroup/a/memory.max": {Data: []byte("1000\n")}}
	for _, c := range []struct{ configured, group, limit int64 }{{0, 1000, 1000}, {123, 0, 123}, {-1, 0, 0}} {
		if group, limit := MemoryLimit(files, c.configured); group.Limit != c.group || limit != c.limit {
			t.Errorf("configured %d: limit %d of a group with %d, want %d of one with %d", c.configured, limit, group.Limit, c.limit, c.group)
		}
	}
}

func put(t testing.TB, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestMemoryOfACgroupIsWithoutWhatTheKernelCanDrop(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	dir := filepath.Join(root, "sys/fs/cgroup/a")
	put(t, filepath.Join(root, "proc/self/cgroup"), "0::/a\n")
	put(t, filepath.Join(dir, "memory.max"), "1000\n")
	group, limit := MemoryLimit(os.DirFS(root), 0)
	w := &Memory{Limit: limit, cgroup: group, before: -1}
	for _, c := range []struct {
		why, current, stat string
		used               int64
		full               bool
	}{
		{"little", "100\n", "anon 100\n", 100, false},
		{"just below", "949\n", "", 949, false},
		{"95 %", "950\n", "", 950, true},
		{"most of it is cache", "990\n", "anon 90\nfile 900\ninactive_file 900\nactive_file 0\n", 90, false},
		{"full", "1000\n", "inactive_file 10\n", 990, true},
		{"unreadable: as before", "what\n", "", 990, true},
		{"better", "500\n", "", 500, false},
	} {
		put(t, filepath.Join(dir, "memory.current"), c.current)
		put(t, filepath.Join(dir, "memory.stat"), c.stat)
		w.Look()
		if w.Used.Load() != c.used || w.Full.Load() != c.full {
			t.Errorf("%s: %d used, full %v; want %d, %v", c.why, w.Used.Load(), w.Full.Load(), c.used, c.full)
		}
	}
}
