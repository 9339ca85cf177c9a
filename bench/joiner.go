package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"
)

// joiner is one client of a recovery: it joins, leaves and joins again. Its
// receiver checks the offsets, it checks the payloads.
type joiner struct {
	*caller

	// Set at construction.
	recovery *recovery

	// Owned by its goroutine.
	last  uint64 // the offset up to which it has got everything; 0: none
	until uint64 // the head when it joined: up to there it recovers

	recovered int64 // publications up to until
	live      int64 // those behind it
	wrong     int64 // publications with the payload of another offset
}

// joinScratch is what one read of a joiner takes: a few hundred records.
const joinScratch = 32 << 10

func (r *recovery) newJoiner(i int) *joiner {
	j := &joiner{recovery: r, caller: newCaller(r.Protocol, r.phase, r.clock, i, joinScratch)}
	j.epoch = []byte(r.ledger.epoch) // unless it is the scout, which finds it out
	j.joined = j.publication
	return j
}

// publication checks one payload against its offset.
func (j *joiner) publication(c *conn, s stamp, _ int64) {
	switch {
	case j.at != j.recovery.ledger.base+uint64(s.seq):
		j.wrong++
	case j.at+1 != c.next: // repeated, and counted as that
	case j.at <= j.until:
		j.recovered++
	default:
		j.live++
	}
}

// run joins until the run's joins have been dealt.
func (j *joiner) run(ctx context.Context) {
	for ctx.Err() == nil && j.recovery.begun.Add(1) <= int64(j.recovery.Joins) {
		took, err := j.join(ctx, j.since())
		if err != nil && ctx.Err() != nil {
			return // interrupted: neither complete nor failed
		}
		j.recovery.outcome(took, err)
	}
}

// since chooses a position: what this client saw last, as one that comes back
// does, or one of all recent ones.
func (j *joiner) since() uint64 {
	if j.last > 0 && rand.IntN(2) == 0 {
		return j.last
	}
	l := &j.recovery.ledger
	head := l.head.Load()
	return head - min(rand.Uint64N(uint64(j.recovery.Behind)+1), head-(l.base-1))
}

// join connects with a position and stays until enough is live. It gives the
// time after which everything that was missed had come.
func (j *joiner) join(ctx context.Context, since uint64) (caughtUp time.Duration, err error) {
	r := j.recovery
	begin := r.clock.now()
	early, err := j.open(ctx, r.ledger.epoch+":"+strconv.FormatUint(since, 10))
	if err != nil {
		return 0, err
	}
	defer j.reset()
	j.until = max(r.ledger.head.Load(), since)
	j.conn.next = since + 1
	enough := j.until + uint64(r.Live)
	err = j.feed(&j.conn, early, r.clock.now())
	for err == nil && j.conn.next <= enough {
		if caughtUp == 0 && j.conn.next > j.until {
			caughtUp = time.Duration(r.clock.now() - begin)
		}
		err = j.read()
	}
	if caughtUp == 0 {
		caughtUp = time.Duration(r.clock.now() - begin)
	}
	j.last = j.conn.next - 1
	if err != nil {
		return 0, fmt.Errorf("since %d, joined at %d: got as far as %d: %w", since, j.until, j.last, err)
	}
	return caughtUp, nil
}

// open connects from a position.
func (j *joiner) open(ctx context.Context, since string) (early []byte, err error) {
	r := j.recovery
	t := r.target
	u := *t.url
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += "since=" + since
	t.url = &u
	stay := time.Duration(2 * float64(r.Live) / r.Rate * float64(time.Second))
	return j.connect(ctx, t, r.Timeout+stay)
}

// read takes one read's worth of bytes.
func (j *joiner) read() error {
	err := j.caller.read()
	if j.conn.next > 0 {
		j.recovery.ledger.got(j.conn.next - 1)
	}
	return err
}

// newScout connects a client that finds out what the ledger begins with. It reads
// the position at which it has joined.
func (r *recovery) newScout(ctx context.Context) (*joiner, error) {
	j := r.newJoiner(0)
	early, err := j.open(ctx, "now")
	if err != nil {
		return nil, err
	}
	err = j.feed(&j.conn, early, 0)
	for err == nil && len(j.epoch) == 0 {
		err = j.read()
	}
	if err != nil {
		j.reset()
		return nil, fmt.Errorf("%s: no position came with since=now: %w; does the server speak ?since=, and does it keep a history?", r.target.url, err)
	}
	return j, nil
}

// find waits for the run's first publication, and ends the connection.
func (j *joiner) find() error {
	defer j.reset()
	l := &j.recovery.ledger
	found := false
	j.joined = func(c *conn, s stamp, now int64) {
		if !found {
			found, l.base = true, j.at-uint64(s.seq)
		}
		j.publication(c, s, now)
	}
	for !found {
		if err := j.read(); err != nil {
			return fmt.Errorf("nothing that was published arrived: %w; do publisher and clients meet on one channel (--path, --publish-url)?", err)
		}
	}
	l.epoch = string(j.epoch)
	return nil
}
