package edge

import (
	"io"
	"net"
	"testing"

	"sluice/gateway/clienttest"
)

// BenchmarkUpgrade takes connections from their accept to their loop and closes them. It measures
// the client, too.
func BenchmarkUpgrade(b *testing.B) {
	for _, path := range []string{"/ws/x", "/echo", "/connection/websocket"} {
		b.Run(path[1:3], func(b *testing.B) {
			s := start(b, settings{Loops: 1})
			request, answer := []byte(clienttest.UpgradeTo(path)), make([]byte, 512)
			b.ReportAllocs()
			for b.Loop() {
				c, err := net.Dial("tcp", s.addr)
				if err != nil {
					b.Fatal(err)
				}
				c.(*net.TCPConn).SetLinger(0) // ignored: then ports run out
				c.Write(request)              // ignored: then nothing can be read
				if n, err := io.ReadAtLeast(c, answer, 12); err != nil || string(answer[9:12]) != "101" {
					b.Fatalf("%q, %v", answer[:n], err)
				}
				c.Close() // ignored: nothing is left to do
			}
		})
	}
}
