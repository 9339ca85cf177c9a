package gateway

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"testing"
)

func TestCgroupLimitIsTheLowestOnTheWayUp(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		why, membership string
		files           map[string]string // memory.max, by directory
		dir             string
		limit           int64
	}{
		{"its own", "0::/a/b\n", map[string]string{"a/b": "1000\n", "a": "max\n"}, "a/b", 1000},
		{"one above is lower", "0::/a/b\n", map[string]string{"a/b": "1000\n", "a": "500\n"}, "a", 500},
		{"one above is higher", "0::/a/b\n", map[string]string{"a/b": "1000\n", "a": "5000\n"}, "a/b", 1000},
		{"the root of a container", "0::/\n", map[string]string{".": "700\n"}, ".", 700},
		{"version 1 beside it", "12:memory:/x\n1:name=systemd:/y\n0::/a\n", map[string]string{"a": "1000", "x": "1"}, "a", 1000},
		{"no limit", "0::/a/b\n", map[string]string{"a/b": "max\n", "a": "max\n"}, "", 0},
		{"version 1 alone", "12:memory:/x\n", map[string]string{"x": "1000"}, "", 0},
		{"no files", "0::/a/b\n", nil, "", 0},
		{"outside of its namespace", "0::/../../x\n", nil, "", 0},
		{"no path", "0::\n", map[string]string{".": "700\n"}, ".", 700},
		{"nonsense", "0::/a\n", map[string]string{"a": "lots\n"}, "", 0},
	} {
		root := t.TempDir()
		for dir, text := range c.files {
			put(t, filepath.Join(root, dir, "memory.max"), text)
		}
		membership := filepath.Join(root, "membership")
		put(t, membership, c.membership)
		want := ""
		if c.limit > 0 {
			want = filepath.Join(root, c.dir)
		}
		if dir, limit := cgroupLimit(membership, root); limit != c.limit || filepath.Clean(dir) != filepath.Clean(want) {
			t.Errorf("%s: got %q %d, want %q %d", c.why, dir, limit, want, c.limit)
		}
	}
	if dir, limit := cgroupLimit("/nonexistent", "/"); dir != "" || limit != 0 {
		t.Errorf("without a membership: %q %d", dir, limit)
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
	dir := t.TempDir()
	w := &memoryWatch{limit: 1000, cgroup: dir, before: -1}
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
