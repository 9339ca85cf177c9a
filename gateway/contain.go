package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

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
// Ready, or a method of conn whose name begins with step.
func (c *conn) contain() {
	if r := recover(); r != nil {
		c.panicked(r)
	}
}

// step does something for one connection, and nothing where it panics.
func (c *conn) step(do func(*conn)) {
	defer c.contain()
	do(c)
}

// panicked deals with a panic of a step.
func (c *conn) panicked(r any) {
	l, hooked := c.loop, c.loop.inHook
	l.inHook = false
	record := func(what string, why error) {
		attrs := []slog.Attr{slog.Uint64("conn", c.id), slog.String("client", addressText(c.from())), slog.Any("panic", r), slog.String("stack", string(debug.Stack()))}
		if why != nil {
			attrs = append(attrs, slog.String("error", why.Error()))
		}
		l.log.LogAttrs(context.Background(), slog.LevelError, what, attrs...)
	}
	l.panicking++
	defer func() { l.panicking-- }()
	torn, why := panicSite(steps[:], sharing[:])
	if why == nil {
		why = c.checkPlaces()
	}
	if why == nil && l.panicking == 1 {
		l.stats.panics.Add(1)
		if record("connection closed: panic", nil); !hooked {
			l.server.admission.Blame(c.seat, time.Now().UnixMilli())
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
func (c *conn) endPanicked(torn bool) error {
	l := c.loop
	switch l.panicking {
	case 1:
		c.step(func(c *conn) {
			if torn || c.phase != phaseOpen {
				c.kill(reasonPanic) // a Close frame might stand in the midst of another
				return
			}
			c.dropInput()
			c.close(reasonPanic)
			c.settle()
		})
	case 2: // closing panics as well
		c.step(func(c *conn) { c.kill(reasonPanic) })
	default:
		return errors.New("the connection cannot be ended")
	}
	for _, g := range l.groups {
		l.endIfEmpty(g) // one that was made for a subscription which did not begin
	}
	held := 0
	for _, other := range l.conns {
		held += int(other.counted)
	}
	if held != l.held {
		return fmt.Errorf("connections hold %d bytes, counted are %d", held, l.held)
	}
	return c.check()
}

// gatewayPath is the path of this package.
var gatewayPath = reflect.TypeFor[conn]().PkgPath()

// pollerPath is that of the poller's.
var pollerPath = reflect.TypeFor[poller.Desc]().PkgPath()

// steps are the beginnings of the names of steps.
var steps = [...]string{gatewayPath + ".(*conn).Ready", gatewayPath + ".(*conn).step"}

// sharing are the beginnings of functions in which a panic leaves half changed what
// connections share.
var sharing = [...]string{gatewayPath + "/channel.", gatewayPath + "/presence.", gatewayPath + "/engine.", gatewayPath + ".(*loop).", gatewayPath + ".(*group)."}

// writing are the beginnings of functions that write to a socket and account for it then,
// and of what answers the request.
var writing = [...]string{gatewayPath + ".(*conn).write", gatewayPath + ".(*conn).stepTook", gatewayPath + ".(*arrival).begin"}

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
