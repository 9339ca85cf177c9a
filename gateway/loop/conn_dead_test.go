package loop

import (
	"testing"

	"sluice/poller"
)

// Whatever a loop still does for a connection that has died changes nothing: neither the
// connection's record nor the loop's lists, where another connection has its place now.
func TestDeadConnectionIsInert(t *testing.T) {
	s := startLoops(t, loopsConfig{Loops: 1, PingInterval: -1})
	_, dead := loopPair(t, s, "x", 0)
	_, other := loopPair(t, s, "x", 0)
	s.do(func(l *Loop) {
		dead.extra().identity = &Identity{ID: NewClientID()}
		l.Identify(dead, "somebody")
		dead.kill(ReasonReset)
	})
	g := other.sub.group
	for name, do := range map[string]func(l *Loop){
		"an event":      func(*Loop) { dead.Ready(poller.Readable | poller.Writable | poller.Hangup) },
		"a deadline":    func(l *Loop) { l.WakeAt(dead, 1); dead.expire(); dead.closeTimedOut() },
		"settling":      func(*Loop) { dead.Settle(); dead.adjust(); dead.goOn(); dead.advanceClose() },
		"writing":       func(*Loop) { dead.write(); dead.Flush(); dead.unblock(); dead.mark(); dead.skip() },
		"a refusal":     func(*Loop) { dead.block() },
		"a reply":       func(*Loop) { dead.pong([]byte("late")) },
		"its end":       func(*Loop) { dead.Close(ReasonSlow); dead.kill(ReasonSlow); dead.abort(); dead.die(); dead.eof() },
		"joining":       func(*Loop) { dead.Enter(g, g.Log().Head(), 0) },
		"leaving":       func(l *Loop) { l.leaveAll(dead); dead.unpark(); dead.giveUp(ReasonReset) },
		"a user":        func(l *Loop) { l.Identify(dead, "somebody"); l.forget(dead) },
		"posted before": func(l *Loop) { dead.Resume(); (*later)(dead).Deliver(l) },
		"its sweep":     func(l *Loop) { l.catching = append(l.catching, dead); l.catchUpSome(); g.again(); l.sweep() },
	} {
		s.do(func(l *Loop) {
			do(l)
			if err := l.check(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if err := dead.check(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if len(l.conns) != 1 || l.due[0] != noDue || len(g.subs) != 1 || len(l.users) != 0 {
				t.Errorf("%s: %d connections, due at %d, %d subscribers, %d users", name, len(l.conns), l.due[0], len(g.subs), len(l.users))
			}
		})
	}
}
