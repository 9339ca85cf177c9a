package edge

import (
	"context"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"sluice/gateway/clienttest"
	"sluice/gateway/loop"
)

// wrapped is a listener of an embedding program's, of which nothing is known but what every
// listener has.
type wrapped struct{ net.Listener }

// A listener that somebody has wrapped is accepted from as it stands; for the connections
// of one of package net's no net.Conn is made unless they have to wait.
func TestEveryListenerIsAcceptedFrom(t *testing.T) {
	t.Parallel()
	tcp := func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }
	for name, listen := range map[string]func() (net.Listener, error){
		"TCP": tcp,
		"wrapped": func() (net.Listener, error) {
			l, err := tcp()
			return wrapped{l}, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, settings{})
			l, err := listen()
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan error, 1)
			go func() { served <- s.serve(l) }()
			other := s.at(l.Addr().String(), s.secured)
			for _, head := range []string{clienttest.UpgradeTo("/echo"), "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", "nonsense\r\n\r\n"} {
				for _, cut := range []int{0, 5} { // at once, and with a wait
					c := clienttest.Connect(t, other)
					if cut > 0 {
						c.Write(head[:cut])
						clienttest.WaitFor(t, "the first piece to be read", func() bool { return s.waiting() == 1 })
					}
					c.Write(head[cut:])
					if !strings.HasPrefix(head, "GET /echo") {
						status := http.StatusOK
						if head[0] != 'G' {
							status = http.StatusBadRequest
						}
						c.WantStatus(head, status)
						c.WantEOF(head)
						continue
					}
					c.WantUpgrade(name)
					c.Send(clienttest.Text("hello"))
					c.WantText(name, "hello")
					s.Each(func(c *loop.Conn) {
						if v, err := syscall.GetsockoptInt(c.FD(), syscall.IPPROTO_TCP, syscall.TCP_NODELAY); err != nil || v == 0 {
							t.Errorf("TCP_NODELAY is %d, %v", v, err)
						}
					})
					c.Send(clienttest.Closing(1000, ""))
					c.WantClose(name, 1000)
				}
			}
			ctx, cancel := context.WithTimeout(context.Background(), clienttest.Patience)
			defer cancel()
			if err := s.shutdown(ctx); err != nil {
				t.Error(err)
			}
			if err := clienttest.Receive(t, "Serve to return", served); err != ErrClosed {
				t.Errorf("Serve returned %v", err)
			}
			// Nothing of ours holds the port any more; somebody else's connection may have it for a moment.
			clienttest.WaitFor(t, "the port to be free", func() bool {
				again, err := net.Listen("tcp", l.Addr().String())
				if err == nil {
					again.Close() // ignored: nobody knew of it
				}
				return err == nil
			})
		})
	}
}
