package loop

import (
	"net/netip"
	"os"
	"slices"
	"testing"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/wire"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// What is listed by name must exist, or a panic costs one connection that may cost the
// process, or the other way round.
func TestFunctionsListedForPanicsExist(t *testing.T) {
	clienttest.WantFunctions(t, slices.Concat(steps[:], sharing[:], writing[:], arrivalSteps[:], ArrivalSharing[:])...)
}

// tornAdmission panics when a place is given back.
type tornAdmission struct{ left int }

func (a *tornAdmission) Left(Seat, bool)               { a.left++; panic("planted") }
func (*tornAdmission) Blame(Seat)                      {}
func (*tornAdmission) Taken(netip.AddrPort, bool) Seat { return 0 }

// blaming is an Admission that notes whom it is asked to blame.
type blaming struct {
	Admission
	blamed []Seat
}

func (a *blaming) Blame(at Seat) { a.blamed = append(a.blamed, at) }

// The seat of a connection that has died may be another address's: a panic after that, such as
// while it is settled, blames nobody.
func TestPanicBlamesItsOwnSeatOnly(t *testing.T) {
	s := startLoops(t, loopsConfig{Loops: 1, PingInterval: -1})
	_, living := loopPair(t, s, "x", 0)
	_, dead := loopPair(t, s, "x", 0)
	s.do(func(l *Loop) {
		admission := &blaming{Admission: l.cfg.Admission}
		l.cfg.Admission = admission
		living.seat, dead.seat = 1, 2
		living.step(func(*Conn) { panic("planted") })
		dead.step(func(c *Conn) { c.kill(ReasonReset); panic("planted") })
		if diff := cmp.Diff([]Seat{1, 0}, admission.blamed); diff != "" {
			t.Errorf("blamed seats (-want +got):\n%s", diff)
		}
	})
}

// A panic while an arrival's descriptor and place are given back ends the process: neither
// may be given back again.
func TestPanicInGivingBackAnArrivalIsNotContained(t *testing.T) {
	torn, v := new(tornAdmission), &Variant{Framing: wire.WebSocket}
	cfg := (&loopsConfig{}).set()
	cfg.Admission, cfg.Variants, cfg.Space = torn, []*Variant{v}, channel.NewSpace(256<<10, 10, channel.NewBudget(1<<20))
	l, err := newLoop(bareSet(cfg), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.poller.Close()                                            // ignored: it has no connections
	fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0) // which epoll does not take
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if r := recover(); r == nil || torn.left != 1 {
			t.Errorf("the place was given back %d times, and the panic is %v: want 1 and one", torn.left, r)
		}
	}()
	(&Arrival{Hello: Hello{Variant: v}, FD: fd, From: (*loops)(nil)}).watched(l)
}
