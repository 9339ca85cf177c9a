package gateway

import (
	"io"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/gateway/clienttest"
)

// cpu returns the CPU time that the process has used.
func cpu(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkEmulatedCommand is a command on a kept connection, with what its client takes: cpu-us/op is that of the process.
func BenchmarkEmulatedCommand(b *testing.B) {
	const clients = 8
	s := start(b, Config{PingInterval: -1})
	var all []*clienttest.Emulated
	var requests [][]byte
	for range clients {
		e := clienttest.Emulate(b, s, "")
		e.Does(`{"id":2,"subscribe":{"channel":"x"}}`)
		e.Told("subscribe")
		all = append(all, e)
		requests = append(requests, []byte("POST /emulation HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\nContent-Length: "+
			"LENGTH\r\nsec-ch-ua-platform: \"Linux\"\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\r\n"+
			"sec-ch-ua: \"Chromium\";v=\"142\"\r\nContent-Type: application/json\r\nAccept: */*\r\nOrigin: http://localhost\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\n"+
			"Sec-Fetch-Dest: empty\r\nReferer: http://localhost/\r\nAccept-Encoding: gzip, deflate, br\r\nAccept-Language: en-US,en;q=0.9\r\n\r\n"+
			e.Emulation(`{"id":3,"presence_stats":{"channel":"x"}}`)))
		last := len(requests) - 1
		body := e.Emulation(`{"id":3,"presence_stats":{"channel":"x"}}`)
		requests[last] = []byte(strings.Replace(string(requests[last]), "LENGTH", strconv.Itoa(len(body)), 1))
	}
	b.ResetTimer()
	before := cpu(b)
	var running sync.WaitGroup
	for i, e := range all {
		running.Go(func() {
			buf := make([]byte, 4096)
			reply := make([]byte, 4096)
			for range (b.N + clients - 1) / clients {
				if _, err := e.Posts.Conn.Write(requests[i]); err != nil {
					b.Error(err)
					return
				}
				if n, err := e.Posts.Conn.Read(buf); err != nil || !strings.HasPrefix(string(buf[:n]), "HTTP/1.1 204") {
					b.Errorf("%q, %v", buf[:n], err)
					return
				}
				if _, err := e.Conn.Read(reply); err != nil && err != io.EOF {
					b.Error(err)
					return
				}
			}
		})
	}
	running.Wait()
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-us/op")
}

// BenchmarkSessionMemory is the memory of a session at rest: its connection and, of an emulated one, its place among those that
// requests find.
func BenchmarkSessionMemory(b *testing.B) {
	for name, connect := range map[string]func(*server) *clienttest.Client{
		"websocket": func(s *server) *clienttest.Client { return member(b, s, "") },
		"emulated": func(s *server) *clienttest.Client {
			e := &clienttest.Emulated{Client: clienttest.Lines(b, s, pathHTTP, `{"id":1,"connect":{}}`)}
			e.Told("connect")
			return e.Client
		},
	} {
		b.Run(name, func(b *testing.B) {
			const n = 4000
			s := start(b, Config{PingInterval: -1})
			fds := make([]int, 0, n)
			open := func() { // and keep nothing of the client but a descriptor
				c := connect(s)
				raw, err := c.Conn.SyscallConn()
				if err != nil {
					b.Fatal(err)
				}
				raw.Control(func(fd uintptr) { // ignored: then Dup fails
					kept, err := syscall.Dup(int(fd))
					if err != nil {
						b.Fatal(err)
					}
					fds = append(fds, kept)
				})
				c.Conn.Close() // ignored: the duplicate stays open
			}
			for range n / 10 {
				open()
			}
			s.Quiet()
			before := heap()
			for range n {
				open()
			}
			s.Quiet()
			b.ReportMetric(float64(heap()-before)/n, "B/session")
			for _, fd := range fds {
				syscall.Close(fd) // ignored: there is nobody to tell
			}
		})
	}
}
