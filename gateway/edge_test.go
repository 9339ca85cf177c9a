package gateway

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"sluice/gateway/edge/admit"
)

// plainOnly skips a test that looks at the bytes of TCP themselves, or counts on how
// many of them a socket takes or how long a handshake does.
func plainOnly(t testing.TB) {
	t.Helper()
	if *overTLS {
		t.Skip("needs plain TCP")
	}
}

// wantSeats sees that an address can have so many connections and not one more: every
// seat was given back, once. The server must not bound the address's rate.
func (s *server) wantSeats(why string, addr netip.Addr, n int) {
	s.t.Helper()
	waitFor(s.t, why, func() bool {
		for i := range n + 1 {
			seat, verdict := s.admission.Enter(addr, time.Now().UnixMilli())
			if i == n {
				return verdict == admit.AddressOpen || verdict == admit.AddressOpenDrop
			}
			if verdict != admit.Admitted {
				return false
			}
			defer s.admission.Leave(seat)
		}
		return false
	})
}

// wantOutcome waits until so many requests have come to something.
func (s *server) wantOutcome(outcome string, n uint64) {
	s.t.Helper()
	waitFor(s.t, outcome+" to be counted", func() bool { return s.counted(outcome) >= n })
	if got := s.counted(outcome); got != n {
		s.t.Errorf("%s is counted %d times, want %d", outcome, got, n)
	}
}

// try asks for an upgrade: the answer's status, or 0 for a reset.
func try(t testing.TB, s *server, fields ...string) (c *client, status int, h http.Header) {
	t.Helper()
	nc, err := net.DialTimeout("tcp", s.addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() }) // ignored: it may be closed already
	c = clientOn(t, s, nc.(*net.TCPConn), "")
	c.patience()
	if _, err = c.conn.Write([]byte(upgradeTo("/ws/x", fields...))); err == nil {
		var resp *http.Response
		if resp, err = http.ReadResponse(c.in, nil); err == nil {
			return c, resp.StatusCode, resp.Header
		}
	}
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Fatalf("neither an answer nor a reset: %v", err)
	}
	return c, 0, nil
}

// secureOver is secureLink over what tcp is wrapped in.
func secureOver(over net.Conn, tcp *net.TCPConn) link {
	return &tlsLink{tls.Client(over, &tls.Config{InsecureSkipVerify: true}), tcp}
}
