package loop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
	"sluice/poller"
)

// A panic in a step that a loop takes for one connection costs that connection: it is
// closed with 1011, counted, and logged with its stack. Others go on, however often it
// happens; but an address is refused for a minute after three of them (package admit),
// unless they were the hook's.
//
// It is not contained where something that others share may be half changed: in the
// packages that keep locks and tables of their own, in the loop's and its groups'
// methods, and wherever the connection is not as it has to be afterwards (check). Then
// the process ends, with the connection and the stack in its log, and a supervisor
// starts it again. Where it happened the stack says: deferred functions have unlocked what was
// locked by the time it is looked at, but its frames are still there.

// contain is deferred by every step for one connection, and by nothing else. A step is
// Ready, or a method of Conn whose name begins with step.
func (c *Conn) contain() {
	if r := recover(); r != nil {
		c.panicked(r)
	}
}

// step does something for one connection, and nothing where it panics.
func (c *Conn) step(do func(*Conn)) {
	defer c.contain()
	do(c)
}

// panicked deals with a panic of a step.
func (c *Conn) panicked(r any) {
	l, hooked := c.loop, c.loop.inFilter
	l.inFilter = false
	record := func(what string, why error) {
		attrs := []slog.Attr{c.LogAttr(), slog.String("client", AddressText(c.From())), slog.Any("panic", r), slog.String("stack", string(debug.Stack()))}
		if why != nil {
			attrs = append(attrs, slog.String("error", why.Error()))
		}
		l.log.LogAttrs(context.Background(), slog.LevelError, what, attrs...)
	}
	l.panicking++
	defer func() { l.panicking-- }()
	torn, why := panicSite(steps[:], append(sharing[:], l.cfg.Sharing...))
	if why == nil {
		why = c.checkPlaces()
	}
	if why == nil && l.panicking == 1 {
		l.stats.Panics.Add(1)
		if record("connection closed: panic", nil); !hooked {
			l.cfg.Admission.Blame(c.seat)
		}
	}
	if why == nil {
		why = c.endPanicked(torn)
	}
	if why != nil {
		record("panic: the process cannot continue", why)
		panic(r)
	}
}

// endPanicked ends the connection as well as its state allows, and returns what is wrong
// with it afterwards. torn: what its socket took is not accounted for.
func (c *Conn) endPanicked(torn bool) error {
	l := c.loop
	switch l.panicking {
	case 1:
		c.step(func(c *Conn) {
			if torn || c.Phase != phaseOpen {
				c.kill(ReasonPanic) // a Close frame might stand in the midst of another
				return
			}
			c.dropInput()
			c.Close(ReasonPanic)
			c.Settle()
		})
	case 2: // closing panics as well
		c.step(func(c *Conn) { c.kill(ReasonPanic) })
	default:
		return errors.New("the connection cannot be ended")
	}
	for _, g := range l.groups {
		l.EndIfEmpty(g) // one that was made for a subscription which did not begin
	}
	held := 0
	for _, other := range l.conns {
		held += int(other.Counted)
	}
	if held != l.held {
		return fmt.Errorf("connections hold %d bytes, counted are %d", held, l.held)
	}
	return c.check()
}

// panicked deals with a panic on the way into a loop.
func (a *Arrival) panicked(l *Loop, r any) {
	SurvivePanic(l.log, r, a.Client, arrivalSteps[:], ArrivalSharing[:])
	l.stats.Panics.Add(1)
	l.cfg.Admission.Blame(a.Seat)
	a.drop(l.set)
}

// SurvivePanic logs a panic in the work for a connection that is in no loop yet, and goes on with the
// panic where the process cannot live with it. steps and sharing are those of panicSite.
func SurvivePanic(log *slog.Logger, r any, client netip.AddrPort, steps, sharing []string) {
	record := func(what string, why error) {
		attrs := []slog.Attr{slog.String("client", AddressText(client)), slog.Any("panic", r), slog.String("stack", string(debug.Stack()))}
		if why != nil {
			attrs = append(attrs, slog.String("error", why.Error()))
		}
		log.LogAttrs(context.Background(), slog.LevelError, what, attrs...)
	}
	if _, why := panicSite(steps, sharing); why != nil {
		record("panic: the process cannot continue", why)
		panic(r)
	}
	record("connection closed during its handshake: panic", nil)
}

// The paths of this package and of others.
var (
	loopPath    = reflect.TypeFor[Conn]().PkgPath()
	channelPath = reflect.TypeFor[channel.Channel]().PkgPath()
	enginePath  = reflect.TypeFor[engine.Publisher]().PkgPath()
	pollerPath  = reflect.TypeFor[poller.Desc]().PkgPath()
)

// steps are the beginnings of the names of steps.
var steps = [...]string{loopPath + ".(*Conn).Ready", loopPath + ".(*Conn).step"}

// sharing are the beginnings of functions in which a panic leaves half changed what
// connections share; Config has those of protocols.
var sharing = [...]string{channelPath + ".", enginePath + ".", enginePath + "/", loopPath + ".(*Loop).", loopPath + ".(*Group)."}

// arrivalSteps and ArrivalSharing are the same for what is done before there is a connection.
var (
	arrivalSteps   = [...]string{loopPath + ".(*Arrival).watched"}
	ArrivalSharing = [...]string{pollerPath + ".", loopPath + ".(*Loop).", loopPath + ".(*inbox).", loopPath + ".(*Arrival).drop"}
)

// writing are the beginnings of functions that write to a socket and account for it then,
// and of what answers the request.
var writing = [...]string{loopPath + ".(*Conn).write", loopPath + ".(*Conn).stepTook", loopPath + ".(*Arrival).begin"}

// panicSite returns an error where a panic has interrupted something that connections
// share, and reports whether it has interrupted a write of the connection's own. The
// deferred function that recovered it calls it. steps are the functions that defer such a
// one, sharing those in which a panic cannot be lived with.
func panicSite(steps, sharing []string) (torn bool, err error) {
	pcs := make([]uintptr, 64)
	n := runtime.Callers(1, pcs)
	for n == len(pcs) {
		pcs = make([]uintptr, 2*len(pcs))
		n = runtime.Callers(1, pcs)
	}
	frames, panicked := runtime.CallersFrames(pcs[:n]), false
	for {
		f, more := frames.Next()
		switch {
		case f.Function == "runtime.gopanic":
			panicked = true
		case !panicked:
		case beginsWith(f.Function, steps):
			return torn || beginsWith(f.Function, writing[:]), nil // the step: what called it was not interrupted
		case beginsWith(f.Function, sharing):
			return true, fmt.Errorf("panic in %s", f.Function)
		default:
			torn = torn || beginsWith(f.Function, writing[:])
		}
		if !more {
			return true, errors.New("panic outside of any step")
		}
	}
}

func beginsWith(name string, any []string) bool {
	return slices.ContainsFunc(any, func(begin string) bool { return strings.HasPrefix(name, begin) })
}
