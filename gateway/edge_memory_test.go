package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/fstest"
)

// The command's tests read the same trees: the gateway must keep the limit that
// `sluice check` promises.
func TestMemoryLimitIsTheCgroupsUnlessConfigured(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("cgroup/testdata/trees.json")
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
	for name, c := range trees {
		files := fstest.MapFS{}
		for name, text := range c.Files {
			files[name] = &fstest.MapFile{Data: []byte(text)}
		}
		if _, limit := memoryLimit(files, 0); limit != c.Limit {
			t.Errorf("%s: limit %d, want %d", name, limit, c.Limit)
		}
		if group, limit := memoryLimit(files, 123); limit != 123 || group.Limit != 0 {
			t.Errorf("%s: limit %d of a group %v, want the configured one", name, limit, group)
		}
		if group, limit := memoryLimit(files, -1); limit != 0 || group.Limit != 0 {
			t.Errorf("%s: limit %d of a group %v, want none", name, limit, group)
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
	group, limit := memoryLimit(os.DirFS(root), 0)
	w := &memoryWatch{limit: limit, cgroup: group, before: -1}
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
		w.look()
		if w.used.Load() != c.used || w.full.Load() != c.full {
			t.Errorf("%s: %d used, full %v; want %d, %v", c.why, w.used.Load(), w.full.Load(), c.used, c.full)
		}
	}
}

// Not parallel: Go's limit is the process's.
func TestGoIsToldTheMemoryLimitUntilShutdown(t *testing.T) {
	const limit = 1 << 40
	goLimit := func() int64 { return debug.SetMemoryLimit(-1) }
	t.Setenv("GOMEMLIMIT", "")
	before := goLimit()
	s := start(t, Config{MemoryLimit: limit})
	if got := goLimit(); got < limit/100*89 || got > limit/100*91 {
		t.Errorf("Go is told %d, want 90%% of %d", got, int64(limit))
	}
	if used := s.memory.used.Load(); used < 1<<20 || used > 1<<36 || s.memory.full.Load() {
		t.Errorf("%d bytes used, full %v", used, s.memory.full.Load())
	}
	end(t, s)
	if got := goLimit(); got != before {
		t.Errorf("after Shutdown Go is told %d, want %d as before", got, before)
	}
	t.Setenv("GOMEMLIMIT", "123GiB")
	s = start(t, Config{MemoryLimit: limit})
	if got := goLimit(); got != before {
		t.Errorf("GOMEMLIMIT is overruled: %d, want %d", got, before)
	}
	end(t, s)
	t.Setenv("GOMEMLIMIT", "")
	used := bytes.Repeat([]byte("x"), 64<<20)
	s = start(t, Config{MemoryLimit: 32 << 20}) // less than the process has already
	if _, status, _ := try(t, s); status != 503 {
		t.Errorf("beyond the limit: status %d, want 503", status)
	}
	s.wantOutcome("memory", 1)
	runtime.KeepAlive(used)
	end(t, s)
	if got := goLimit(); got != before {
		t.Errorf("after Shutdown Go is told %d, want %d as before", got, before)
	}
}

func end(t testing.TB, s *server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.shutdown(ctx); err != nil {
		t.Fatal(err)
	}
}
