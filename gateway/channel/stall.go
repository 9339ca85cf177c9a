package channel

import "time"

// A subscriber that holds a full log back stops everybody on the channel, in all formats and on all
// loops. So the time for which a few do so is counted for the channel. A loop that finds
// subscribers in the way, after it has tried their sockets, reports how many (Holds), and
// when none are any more (LetsGo). From the reports of all loops the channel knows whether most
// subscribers keep up, and for how long they have waited for the others. Before that it is
// nobody's fault in particular: the publishers are faster than all.

const (
	// stallMost is for how long a few may hold a channel back. Then one that does so is too
	// slow.
	stallMost = 5 * time.Second
	// stallFree is not counted where it is not longer than this, or than most needed: a good
	// reader catches up within it, however fast publishers are.
	stallFree = 100 * time.Millisecond
	// stallPardon is how many times as long nobody must hold the channel back for what was
	// counted to be forgotten.
	stallPardon = 4
)

// stall is the time for which subscribers have held a channel back.
type stall struct {
	spent   time.Duration
	ended   time.Time // of the last time; zero before the first
	begun   time.Time // of the present one; zero without
	through time.Time // since when most keep up in the present one; zero while they do not
}

// note takes a report at a time: whether anybody holds the channel back, and whether most
// keep up.
func (s *stall) note(now time.Time, held, most bool) {
	if held && s.begun.IsZero() {
		if !s.ended.IsZero() {
			s.spent = max(s.spent-max(now.Sub(s.ended), 0)/stallPardon, 0) // another loop's time may be a little older
		}
		s.begun = now
	}
	if s.begun.IsZero() || held && most == !s.through.IsZero() {
		return
	}
	if held && most {
		s.through = now
		return
	}
	s.charge(s.present(now))
	s.through = time.Time{}
	if !held {
		s.begun, s.ended = time.Time{}, now
	}
}

// present returns for how long most have waited for a few by now; 0 as long as that is not longer
// than a moment, and than most needed themselves.
func (s *stall) present(now time.Time) time.Duration {
	if d := now.Sub(s.through); d > stallFree && s.longer(now) {
		return d
	}
	return 0
}

// longer reports whether most have waited for a few for longer than they needed themselves.
func (s *stall) longer(now time.Time) bool {
	return !s.through.IsZero() && now.Sub(s.through) > s.through.Sub(s.begun)
}

// charge counts a time. More than twice the most is not remembered.
func (s *stall) charge(d time.Duration) { s.spent = min(s.spent+d, 2*stallMost) }

// unknown stands in Reader.below from when a reader is pressed until it reports.
const unknown = -1

// Hold is what a channel knows of the subscribers that hold it back.
type Hold struct {
	// Few is for how long most have waited for a few, where that is longer than a moment.
	Few time.Duration
	// Spent: a few have had all the time that there is for that, before or with Few.
	Spent bool
	// Over: and now they had longer than most needed.
	Over bool
}

// Holds records that below of the loop's subscribers hold the log back.
func (r *Reader) Holds(below int, now time.Time) Hold {
	c := r.log.channel
	c.mu.Lock()
	defer c.mu.Unlock()
	r.below = below
	most, known := c.mostKeepUpLocked()
	c.stall.note(now, true, most && known)
	h := Hold{Few: c.stall.present(now)}
	h.Spent = most && c.stall.spent+h.Few >= stallMost
	h.Over = h.Spent && c.stall.longer(now)
	return h
}

// LetsGo records that none of the loop's subscribers hold the log back.
func (r *Reader) LetsGo(now time.Time) {
	c := r.log.channel
	c.mu.Lock()
	defer c.mu.Unlock()
	r.below = 0
	for _, l := range c.logs {
		for _, other := range l.readers {
			if other.below > 0 {
				return
			}
		}
	}
	c.stall.note(now, false, true)
}

// Charge counts a time that somebody was not given, because it was used up before: while such
// subscribers come, none of it is forgotten.
func (r *Reader) Charge(d time.Duration) {
	c := r.log.channel
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stall.charge(d)
}

// mostKeepUpLocked looks at all logs. known: every reader that was pressed has reported; else its
// loop may be late, which is no subscriber's fault.
func (c *Channel) mostKeepUpLocked() (most, known bool) {
	below := 0
	known = true
	for _, l := range c.logs {
		for _, r := range l.readers {
			if r.below == unknown {
				known = false
			} else {
				below += r.below
			}
		}
	}
	return 2*below <= c.Subscribers(), known
}
