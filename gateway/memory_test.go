package gateway

import (
	"bytes"
	"context"
	"runtime"
	"runtime/debug"
	"testing"

	"sluice/gateway/clienttest"
)

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
	if used := s.memory.Used.Load(); used < 1<<20 || used > 1<<36 || s.memory.Full.Load() {
		t.Errorf("%d bytes used, full %v", used, s.memory.Full.Load())
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
	if _, status, _ := clienttest.Try(t, s); status != 503 {
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
	ctx, cancel := context.WithTimeout(context.Background(), clienttest.Patience)
	defer cancel()
	if err := s.shutdown(ctx); err != nil {
		t.Fatal(err)
	}
}
