package loop

import (
	"encoding/binary"
	"errors"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/saved"
)

// What slow clients have not been sent lies in the logs of their channels: as much as the budget of all logs, when
// many are slow. To copy that takes longer than anybody may wait, so most of it is copied before the freeze. In the
// freeze only what was appended since is copied, and where the slowest subscriber is by then.

const (
	// copyLeast is how far somebody must be behind for a log to be copied before the freeze.
	copyLeast = 4 << 10
	// copyTurn is about how much a loop copies in a turn: it takes 0.1 ms.
	copyTurn = 256 << 10
	// copyPatience is how long a loop may take for a turn.
	copyPatience = 5 * time.Second
)

// copiedLog is what was copied of a log before the freeze.
type copiedLog struct {
	number   uint64 // of the copy, from 1 on
	from, to uint64 // cursors
}

// copying is a loop's part of CopyLogs.
type copying struct {
	groups []*Group // that are left; nil before the first turn
	begun  bool
	done   bool
}

// CopyLogs appends about limit bytes of what subscribers that are behind have in their logs, while the loops serve. It
// returns false when there is nothing more, and has appended nothing.
func (g *Giving) CopyLogs(dst []byte, limit int) (_ []byte, more bool, err error) {
	if g.copying == nil {
		g.copying, g.copied = make([]copying, len(g.set.loops)), make(map[*channel.Log]copiedLog)
	}
	start := len(dst)
	for i, l := range g.set.loops {
		for c := &g.copying[i]; !c.done && len(dst)-start < limit; {
			turn := make(chan []byte, 1)
			if !l.Post(call(func(l *Loop) { turn <- g.copySome(c, l, nil) })) {
				return dst, false, ErrStopping
			}
			select {
			case b := <-turn:
				dst = append(dst, b...)
			case <-time.After(copyPatience):
				return dst, false, errors.New("loop: an event loop does not copy its logs")
			}
		}
	}
	return dst, len(dst) > start, nil
}

// copySome appends some logs, in a turn.
func (g *Giving) copySome(c *copying, l *Loop, dst []byte) []byte {
	if !c.begun {
		c.begun = true
		for _, group := range l.groups {
			c.groups = append(c.groups, group)
		}
	}
	for len(c.groups) > 0 && len(dst) < copyTurn {
		last := len(c.groups) - 1
		group := c.groups[last]
		c.groups = c.groups[:last]
		if l.groups[group.key] == group { // else it has ended
			dst = g.copyLog(group, dst)
		}
	}
	c.done = len(c.groups) == 0
	return dst
}

// copyLog appends a log from the lowest cursor of the loop on, unless another loop has copied it from a lower one.
func (g *Giving) copyLog(group *Group, dst []byte) []byte {
	log := group.Log()
	low := log.Head()
	if known, ok := g.copied[log]; ok {
		low = known.from
	}
	from := low
	for i := range group.subs {
		if s := &group.subs[i]; s.c != nil && s.c.travels() && s.cursor < from {
			from = s.cursor
		}
	}
	if from == low || log.Head()-from < copyLeast {
		return dst
	}
	var to uint64
	var ok bool
	number := uint64(len(g.copied) + 1)
	if known, again := g.copied[log]; again {
		number = known.number
	}
	begin := len(dst)
	dst = saved.AppendPart(binary.AppendUvarint(dst, number), func(dst []byte) []byte {
		dst, to, ok = group.AppendFrames(dst, from)
		return dst
	})
	if !ok {
		return dst[:begin]
	}
	g.copied[log] = copiedLog{number, from, to}
	return dst
}

// since returns what was copied of a log that has everything from a cursor on, if the copy begins there or below.
func (g *Giving) since(log *channel.Log, cursor uint64) (c copiedLog, ok bool) {
	c, ok = g.copied[log]
	return c, ok && c.from <= cursor && cursor < c.to
}

// Restore takes what CopyLogs has appended.
func (t *Taking) Restore(b []byte) error {
	r := saved.ReadPart("a piece of logs", b)
	for r.More() {
		number := r.Uint()
		t.copied[number] = r.Bytes()
	}
	return r.End()
}
