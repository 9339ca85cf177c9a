package proxy

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/hook"
)

// Clients that come and go at once make no more connections to a backend than it may have calls.
func TestCallsThatAreTakenBackMakeNoConnections(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns atomic.Int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		var all []net.Conn
		for {
			c, err := ln.Accept()
			if err != nil {
				break
			}
			conns.Add(1)
			all = append(all, c) // and no handshake
		}
		for _, c := range all {
			c.Close()
		}
	}()
	defer func() { ln.Close(); <-done }()
	h := endpoint(t, Config{Endpoint: "https://" + ln.Addr().String(), InFlight: 2}).Connect()
	defer h.Close()
	const calls, most = 50, 2
	for range calls {
		cancel := h.Ask(&hook.ConnectRequest{Client: someone()}, func(*hook.ConnectResult, error) {})
		time.Sleep(time.Millisecond) // it has begun, unless the machine is busy
		cancel()
	}
	if n := conns.Load(); n > most {
		t.Errorf("%d connections", n)
	}
}
