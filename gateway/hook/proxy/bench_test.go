package proxy

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"sluice/gateway/hook"
)

// replies is a backend that costs as little as possible: it answers whatever comes at once, so
// that what is measured is the client.
func replies(b *testing.B) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
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
	return "http://" + l.Addr().String() + "/hook"
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
			b.StopTimer()
			client.CloseIdleConnections()
		})
	}
}
