package edge

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// Whoever waits is spared from when it came, however often it has sent a byte since.
func TestDribblingKeepsNoPlaceInTheHandshakeStage(t *testing.T) {
	t.Parallel()
	const justNow = 0
	secured := &tls.Config{}
	type who struct {
		tls   *tls.Config
		heard bool
		ago   time.Duration
		held  int // places of its address
	}
	for _, c := range []struct {
		why    string
		all    []who // the one that has sent a byte longest ago first
		victim int   // -1 for nobody
	}{
		{"nobody waits", nil, -1},
		{"plain ones are not spared", []who{{nil, false, justNow, 0}}, 0},
		{"good handshakes are", []who{{secured, true, justNow, 0}, {secured, false, justNow, 0}}, -1},
		{"one that says nothing", []who{{secured, true, justNow, 0}, {secured, false, secureShort, 0}}, 1},
		{"one that dribbles", []who{{secured, true, justNow, 0}, {secured, true, secureTurn, 0}}, 1},
		{"the address that has most", []who{{secured, true, 3 * secureTurn, 2}, {secured, true, 2 * secureTurn, 4}, {secured, true, 2 * secureTurn, 3}}, 1},
		{"an address that makes nothing of several is not spared for long", []who{{secured, true, justNow, 1}, {secured, true, 2 * secureShort, 2}}, 1},
		{"the one that came first, not the one that is silent for longest", []who{{secured, true, 2 * secureTurn, 0}, {secured, true, 3 * secureTurn, 0}, {nil, false, 0, 0}}, 1},
	} {
		s, now := New(Config{MaxHandshakes: 4}), time.Now()
		var all []*greeting
		for _, w := range c.all {
			g := &greeting{door: &door{server: s, tls: w.tls}, entered: now.Add(-w.ago)}
			g.heard.Store(w.heard)
			g.holder = &holder{places: w.held}
			all = append(all, g)
		}
		for range 3 { // each sends a byte, and waits again
			for _, g := range all {
				if !g.hurry() || !g.wait() {
					t.Fatal("evicted by nobody")
				}
			}
		}
		var want *greeting
		if c.victim >= 0 {
			want = all[c.victim]
		}
		if got, spared := s.stage.victimLocked(&greeting{}, now); got != want || got == nil && spared <= 0 { // nobody else is here
			t.Errorf("%s: victim %v, spared for %v; want %v", c.why, got, spared, want)
		}
	}
}

// exhausted is a listener of a process without descriptors: accepting fails, and works
// once more with the one that was kept for it. After some failures it is closed.
type exhausted struct {
	fails   int  // still to come
	waiting bool // somebody does, always
	spare   bool // the descriptor was given back for this call
}

func (l *exhausted) Accept() (net.Conn, error) {
	if l.spare = !l.spare; l.spare {
		if l.fails--; l.fails < 0 {
			return nil, net.ErrClosed
		}
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	if !l.waiting {
		return nil, errors.New("nobody came in time")
	}
	c, client := net.Pipe()
	client.Close() // ignored: a pipe. It does not wait for its answer.
	return c, nil
}

func (l *exhausted) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
func (l *exhausted) Close() error   { return nil }

// With no descriptor left many are told so between two pauses; where nobody waits there
// is a pause each time. The time is the bubble's: it passes in pauses only.
func TestManyAreTurnedAwayBetweenTwoPauses(t *testing.T) {
	t.Parallel()
	const fails = 3*turnAwayMost + 1
	for waiting, pauses := range map[bool]time.Duration{true: 3, false: fails} {
		synctest.Test(t, func(t *testing.T) {
			s := New(Config{MaxHandshakes: 4, Logger: slog.New(slog.DiscardHandler)})
			begun := time.Now()
			if err := s.Serve(&exhausted{fails: fails, waiting: waiting}, nil); err != ErrClosed {
				t.Error(err)
			}
			if took := time.Since(begun); took != pauses*acceptPause {
				t.Errorf("somebody waits: %v: %d failures took %v, want %d pauses of %v", waiting, fails, took, pauses, acceptPause)
			}
			if n := s.stats.outcomes[rejectDescriptors.Reason].Load(); waiting && n != fails {
				t.Errorf("%d are turned away, want %d", n, fails)
			}
		})
	}
}
