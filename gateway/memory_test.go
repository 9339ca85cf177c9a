package gateway

import (
	"bytes"
	"context"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"

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

// A storm of upgrades leaves little garbage: what a handshake needs for a moment is used again. A loopback listener that sends a fixed
// response shows what the client itself takes. Not parallel: it counts what the process allocates.
func TestGarbageOfUpgrades(t *testing.T) {
	if clienttest.RaceEnabled {
		t.Skip("pools forget at random under the race detector")
	}
	clienttest.PlainOnly(t)
	const upgrades = 500
	most := 1500
	if *clienttest.Deflated {
		most = 2000 // the extension is parsed, and answered
	}
	request, response := []byte(clienttest.UpgradeTo("/ws/x")), make([]byte, 512)
	allocated := func(address string) int {
		defer debug.SetGCPercent(debug.SetGCPercent(-1))
		upgrade := func() {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()                                    // ignored: nothing is left to do
			c.(*net.TCPConn).SetLinger(0)                      // ignored: then ports run out
			c.SetDeadline(time.Now().Add(clienttest.Patience)) // ignored: then the test hangs
			c.Write(request)                                   // ignored: then nothing can be read
			if n, err := io.ReadAtLeast(c, response, 12); err != nil || string(response[9:12]) != "101" {
				t.Fatalf("%q, %v", response[:n], err)
			}
		}
		upgrade() // what is allocated once is there
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range upgrades {
			upgrade()
		}
		runtime.ReadMemStats(&after)
		return int(after.TotalAlloc-before.TotalAlloc) / upgrades
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var answering sync.WaitGroup
	answering.Go(func() {
		for buf := make([]byte, 4096); ; {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Read(buf)                                     // ignored: then the client finds out
			c.Write([]byte("HTTP/1.1 101 Upgrade\r\n\r\n")) // ignored: likewise
			c.Close()                                       // ignored: likewise
		}
	})
	client := allocated(l.Addr().String())
	l.Close() // ignored: nothing is accepted any more
	answering.Wait()
	s := start(t, Config{Loops: 1})
	if got := allocated(s.addr) - client; got > most {
		t.Errorf("an upgrade allocates %d bytes, want %d at most", got, most)
	} else {
		t.Logf("an upgrade allocates %d bytes beyond a plain listener", got)
	}
}
