package proxy

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sluice/gateway/hook"
)

// repliesVariable makes a process of this test a backend.
const repliesVariable = "SLUICE_TEST_REPLIES"

// replies starts a backend that answers whatever comes at once, in a process of its own, so that
// the CPU time of this process is that of the client.
func replies(b *testing.B) (url string) {
	backend := exec.Command(os.Args[0])
	backend.Env = append(os.Environ(), repliesVariable+"=1")
	in, err := backend.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := backend.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := backend.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		backend.Wait() // ignored: it has nothing to say
	})
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return "http://" + strings.TrimSpace(address) + "/hook"
}

// serveReplies is the backend. It ends with its standard input.
func serveReplies() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	const body = `{"result":{"user":"u7","expire_at":1900000000}}`
	response := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 47\r\n\r\n" + body)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				buf := make([]byte, 4096)
				for {
					n, err := conn.Read(buf)
					if err != nil {
						return
					}
					if bytes.HasSuffix(buf[:n], []byte("}")) {
						if _, err := conn.Write(response); err != nil {
							return
						}
					}
				}
			}()
		}
	}()
	io.Copy(io.Discard, os.Stdin) // ignored: it has ended
}

// cpu returns the CPU time of this process.
func cpu() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

var benchRequest = &hook.ConnectRequest{
	Client: &hook.Identity{ID: "6f0c4f4e-93a0-4c62-b0b5-0a3ab5c2f7a1", Transport: "websocket", Protocol: "json",
		Headers: hook.Header{{Name: "User-Agent", Value: "x"}, {Name: "Cookie", Value: "session=0123456789abcdef"}}},
	Data: []byte(`{"app":"ios"}`), Name: "js", Version: "3.1",
}

// BenchmarkHook is a connect through everything: queue, encoding, HTTP, decoding.
func BenchmarkHook(b *testing.B) {
	for name, n := range map[string]int{"1": 1, "64": 64} {
		b.Run(name, func(b *testing.B) {
			e, err := New(Config{Endpoint: replies(b), Headers: []string{"Cookie"}})
			if err != nil {
				b.Fatal(err)
			}
			h := e.Connect()
			done := make(chan error, n)
			answer := func(_ *hook.ConnectResult, err error) { done <- err }
			b.ReportAllocs()
			b.ResetTimer()
			before := cpu()
			for i := range b.N {
				if i >= n {
					if err := <-done; err != nil {
						b.Fatal(err)
					}
				}
				h.Ask(benchRequest, answer)
			}
			for range min(n, b.N) {
				<-done
			}
			b.ReportMetric(float64(cpu()-before)/1e3/float64(b.N), "cpu-us/op")
			b.StopTimer()
			h.Close()
			e.Close()
		})
	}
}

// BenchmarkNetHTTP is the same with net/http and encoding/json alone, as one would write it.
func BenchmarkNetHTTP(b *testing.B) {
	for name, n := range map[string]int{"1": 1, "64": 64} {
		b.Run(name, func(b *testing.B) {
			url := replies(b)
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: patience}
			places := make(chan struct{}, n)
			b.ReportAllocs()
			b.ResetTimer()
			before := cpu()
			for range b.N {
				places <- struct{}{}
				go func() {
					defer func() { <-places }()
					body, _ := json.Marshal(map[string]any{"client": benchRequest.Client.ID, "transport": "websocket", "protocol": "json",
						"encoding": "json", "data": json.RawMessage(benchRequest.Data), "name": "js", "version": "3.1"})
					r, err := http.NewRequest("POST", url, strings.NewReader(string(body)))
					if err != nil {
						b.Error(err)
						return
					}
					r.Header.Set("Content-Type", "application/json")
					r.Header.Set("Cookie", "session=0123456789abcdef")
					resp, err := client.Do(r)
					if err != nil {
						b.Error(err)
						return
					}
					defer resp.Body.Close()
					all, _ := io.ReadAll(resp.Body)
					var a struct{ Result struct{ User string } }
					if err := json.Unmarshal(all, &a); err != nil || a.Result.User != "u7" {
						b.Error(err)
					}
				}()
			}
			for range n {
				places <- struct{}{}
			}
			b.ReportMetric(float64(cpu()-before)/1e3/float64(b.N), "cpu-us/op")
			b.StopTimer()
			client.CloseIdleConnections()
		})
	}
}

// BenchmarkStorm is 5,000 clients that connect at once, from 5 addresses, to a backend that takes
// 20 ms and allows 100 calls at a time.
func BenchmarkStorm(b *testing.B) {
	var now, most atomic.Int32
	backend := newBackend(b, func(w http.ResponseWriter, _ *http.Request) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(20 * time.Millisecond)
		now.Add(-1)
		io.WriteString(w, `{"result":{"user":"u7"}}`)
	})
	e, err := New(Config{Endpoint: backend.URL, InFlight: 100})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	h := e.Connect()
	defer h.Close()
	const n = 5000
	for range b.N {
		done := make(chan error, n)
		for i := range n {
			who := *someone()
			who.Peer = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i % 5)}), 1)
			h.Ask(&hook.ConnectRequest{Client: &who}, func(_ *hook.ConnectResult, err error) { done <- err })
		}
		for range n {
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/storm")
	b.ReportMetric(float64(most.Load()), "in-flight-max")
}

// BenchmarkHangingBackend is a backend that hangs for 2 s under 1,000 connects per second: how
// long a client waits for being refused once the circuit breaker is open, and how many calls
// wait and run at most.
func BenchmarkHangingBackend(b *testing.B) {
	backend := newBackend(b, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	for range b.N {
		e, err := New(Config{Endpoint: backend.URL})
		if err != nil {
			b.Fatal(err)
		}
		h := e.Connect()
		var mu sync.Mutex
		var waits []time.Duration
		var all sync.WaitGroup
		queued := 0
		tick := time.NewTicker(time.Millisecond)
		for range 2000 {
			<-tick.C
			s, _ := h.Stats()
			queued = max(queued, s.Queued)
			start, open := time.Now(), s.Open
			all.Add(1)
			h.Ask(&hook.ConnectRequest{Client: someone()}, func(_ *hook.ConnectResult, err error) {
				defer all.Done()
				if errors.Is(err, hook.ErrOverload) && open {
					mu.Lock()
					defer mu.Unlock()
					waits = append(waits, time.Since(start))
				}
			})
		}
		tick.Stop()
		all.Wait()
		slices.Sort(waits)
		b.ReportMetric(float64(waits[len(waits)*99/100].Microseconds()), "us-p99-refused")
		b.ReportMetric(float64(queued), "waiting-max")
		h.Close()
		e.Close()
	}
}
