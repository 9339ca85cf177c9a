package gateway

import (
	"testing"

	"sluice/poller"
)

// Whatever a loop still does for a connection that has died changes nothing: neither the
// connection's record nor the loop's lists, where another connection has its place now.
func TestDeadConnectionIsInert(t *testing.T) {
	s := start(t, Config{Loops: 1, PingInterval: -1})
	_, dead := loopPair(t, s, "x", 0)
	_, other := loopPair(t, s, "x", 0)
	s.do(func(l *loop) {
		dead.extra().identity = &identity{id: newClientID()}
		l.identify(dead, "somebody")
		dead.kill(reasonReset)
	})
	g := other.sub.group
	for name, do := range map[string]func(l *loop){
		"an event":      func(*loop) { dead.Ready(poller.Readable | poller.Writable | poller.Hangup) },
		"a deadline":    func(l *loop) { l.wakeAt(dead, 1); dead.expire(); dead.closeTimedOut() },
		"settling":      func(*loop) { dead.settle(); dead.adjust(); dead.goOn(); dead.advanceClose() },
		"writing":       func(*loop) { dead.write(); dead.flush(); dead.unblock(); dead.mark(); dead.skip() },
		"a refusal":     func(*loop) { dead.block() },
		"a reply":       func(*loop) { dead.pong([]byte("late")) },
		"its end":       func(*loop) { dead.close(reasonSlow); dead.kill(reasonSlow); dead.abort(); dead.die(); dead.eof() },
		"joining":       func(l *loop) { l.enter(dead, g, g.Log().Head()) },
		"leaving":       func(l *loop) { l.leaveAll(dead); dead.unpark(); dead.giveUpSkipped() },
		"a user":        func(l *loop) { l.identify(dead, "somebody"); l.forget(dead) },
		"posted before": func(l *loop) { (*retry)(dead).deliver(l); (*later)(dead).deliver(l) },
		"a verdict":     func(l *loop) { (&verification{c: dead}).deliver(l) },
		"its sweep":     func(l *loop) { l.catching = append(l.catching, dead); l.catchUpSome(); g.again(); l.sweep() },
	} {
		s.do(func(l *loop) {
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
