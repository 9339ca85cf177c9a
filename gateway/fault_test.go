//go:build faults

package gateway

import (
	"flag"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
	"sluice/poller"

	"golang.org/x/sys/unix"
)

// The n-th fault loop: one scripted session runs again and again, and in each run
// another call of one kind fails, the first, the second and so on, until a run has
// fewer calls than that. After SQLite's tests of what happens when memory runs out.
// However a session goes on from there, it comes to an end, nobody gets anything
// twice, in another order or with a hole that is not told, only whom the fault hit
// notices it, and nothing is left over.
//
//	go test -tags faults ./gateway -run Fault -fault.every 1
//	go test -tags faults ./gateway -run Fault -fault read_reset/17
//	go test -tags faults ./gateway -run Fault -fault tls_read_reset/17
var (
	faultEvery = flag.Int("fault.every", 0, "1: fail every call in turn; n: one in so many, and of rare kinds one in n/7; 0: 7, 20 under the race detector")
	faultOnly  = flag.String("fault", "", "kind/n: play this one alone")
)

// faultKind is a row of the table.
type faultKind struct {
	name string
	call poller.Call // where fail is set
	fail func(fd int, p []byte) ([]byte, error)
	// gentle: nobody may notice. Else the client whose descriptor was hit may.
	gentle bool
	rare   bool // a session has few of them, or few that matter

	accept error                           // where Accept fails
	budget func(*faultRun) *channel.Budget // where a budget refuses
	push   bool                            // where the engine pushes back
}

func failing(err error) func(int, []byte) ([]byte, error) {
	return func(int, []byte) ([]byte, error) { return nil, err }
}

// cut lets n bytes through; 0 is EAGAIN.
func cut(n int) func(int, []byte) ([]byte, error) {
	return func(_ int, p []byte) ([]byte, error) { return p[:min(n, len(p))], nil }
}

// brokenPipe is what a write meets behind the peer's end; so is what comes after it.
func brokenPipe(fd int, _ []byte) ([]byte, error) {
	unix.Shutdown(fd, unix.SHUT_RDWR) // ignored: the peer may really be gone
	return nil, unix.EPIPE
}

var faultKinds = []faultKind{
	{name: "read_reset", call: poller.CallRead, fail: failing(unix.ECONNRESET)},
	{name: "read_again", call: poller.CallRead, fail: cut(0), gentle: true},
	{name: "read_short", call: poller.CallRead, fail: cut(1), gentle: true},
	{name: "write_pipe", call: poller.CallWrite, fail: brokenPipe},
	{name: "write_again", call: poller.CallWrite, fail: cut(0), gentle: true},
	{name: "write_short", call: poller.CallWrite, fail: cut(1), gentle: true},
	{name: "add_memory", call: poller.CallAdd, fail: failing(unix.ENOMEM), rare: true},
	{name: "add_watches", call: poller.CallAdd, fail: failing(unix.ENOSPC), rare: true},
	{name: "mod", call: poller.CallMod, fail: failing(unix.ENOMEM), rare: true},
	{name: "del", call: poller.CallDel, fail: failing(unix.ENOMEM), gentle: true, rare: true},
	{name: "accept_aborted", accept: unix.ECONNABORTED, gentle: true, rare: true},
	{name: "accept_descriptors", accept: unix.EMFILE, rare: true},
	{name: "publish", push: true, gentle: true},
	{name: "budget", budget: func(s *faultRun) *channel.Budget { return s.server.budget }, gentle: true, rare: true},
	{name: "history_budget", budget: func(s *faultRun) *channel.Budget { return s.server.historyBudget }, gentle: true, rare: true},
}

// injection fails the n-th call of a kind.
type injection struct {
	kind    *faultKind
	secured bool // the clients speak TLS
	n       int

	mu     sync.Mutex
	active bool // guarded by mu
	calls  int
	at     int    // the call that failed; 0 for none
	peer   string // the address of whose descriptor it was; "" for none
}

// next tells whether this call is to fail.
func (in *injection) next() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.active || in.at > 0 {
		return false
	}
	if in.calls++; in.calls == in.n {
		in.at = in.calls
		return true
	}
	return false
}

func (in *injection) begin() {
	in.mu.Lock()
	in.active = true
	in.mu.Unlock()
	if in.kind.fail == nil {
		return
	}
	poller.Inject(func(call poller.Call, fd int, p []byte) ([]byte, error) {
		if call != in.kind.call || !in.next() {
			return p, nil
		}
		peer := peerName(fd)
		in.mu.Lock()
		in.peer = peer
		in.mu.Unlock()
		return in.kind.fail(fd, p)
	})
}

func (in *injection) end() {
	poller.Inject(nil)
	in.mu.Lock()
	in.active = false
	in.mu.Unlock()
}

func (in *injection) accept() error {
	if in.kind.accept != nil && in.next() {
		return in.kind.accept
	}
	return nil
}

// publish runs in the place of an engine's Publish, one at a time.
func (in *injection) publish(s *faultRun, c engine.Caller, publish func() (channel.Receipt, error)) (channel.Receipt, error) {
	switch {
	case in.kind.push && in.next():
		c.Released()
		return channel.Receipt{}, channel.ErrFull
	case in.kind.budget != nil && in.next():
		defer s.server.space.Trim(time.Now().UnixMilli()) // what a second's passing would do, behind the gifts
		b := in.kind.budget(s)
		for n := s.server.cfg.MaxBuffered; n > 0; n /= 2 { // all that is left
			for b.Take(n) {
				defer b.Give(n)
			}
		}
	}
	return publish()
}

// harms tells whether the fault may have harmed a client.
func (in *injection) harms(a *actor) bool {
	if in.kind.accept != nil { // one was turned away, whoever was next
		return !in.kind.gentle && (a.status == http.StatusServiceUnavailable || in.secured && a.status == 0) // in TLS there is no answer
	}
	return !in.kind.gentle && in.hit(a)
}

// hit tells whether the fault was a client's.
func (in *injection) hit(a *actor) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.peer != "" && in.peer == a.conn.LocalAddr().String()
}

// peerName gives the address of the other side as a net.Addr shows it.
func peerName(fd int) string {
	sa, err := unix.Getpeername(fd)
	if u, ok := sa.(*unix.SockaddrUnix); ok && err == nil {
		return u.Name
	}
	return poller.PeerAddr(fd).String()
}

func TestFault(t *testing.T) {
	only, onlyN, _ := strings.Cut(*faultOnly, "/")
	every := *faultEvery
	if every == 0 {
		every = clienttest.Scaled(7, 20)
	}
	began, runs := time.Now(), 0
	for i := range 2 * len(faultKinds) {
		kind, every := &faultKinds[i/2], every
		if kind.rare {
			every = (every + 6) / 7
		}
		name, secured := kind.name, i%2 == 1
		if secured {
			name = "tls_" + name
			if *faultEvery == 0 {
				every *= 3 // a handshake for each client
			}
		}
		first, last := 1+i/2%every, 1<<20
		if *faultOnly != "" {
			if name != only {
				continue
			}
			first, _ = strconv.Atoi(onlyN) // ignored: 0 fails nothing
			last = first
		}
		kindBegan, calls, failed := time.Now(), 0, 0
		n := first
		for ; n <= last; n += every {
			in := &injection{kind: kind, secured: secured, n: n}
			ok := t.Run(fmt.Sprintf("%s/%d", name, n), func(t *testing.T) { run(t, in) })
			runs++
			calls = in.calls
			if !ok {
				failed++
				t.Errorf("replay it with: go test -tags faults ./gateway -run Fault -fault %s/%d", name, n)
			}
			if in.at == 0 || failed == 3 {
				break
			}
		}
		t.Logf("%-22s %4d calls, every %d from %d on: %v", name, calls, every, first, time.Since(kindBegan).Round(time.Millisecond))
	}
	t.Logf("%d runs in %v", runs, time.Since(began).Round(time.Millisecond))
}
