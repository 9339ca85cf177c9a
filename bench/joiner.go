package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"
)

// joiner is one client of a recovery: it joins, leaves and joins again. Its
// receiver checks the positions, it checks the payloads.
type joiner struct {
	*caller

	// Set at construction.
	recovery *recovery
	door     door

	// Owned by its goroutine.
	next  uint32 // the number of the publication that is due; 0: any
	until uint32 // the head when it joined: what is below it recovers

	told int64 // gaps that it was told of, and takes for no loss

	recovered int64 // publications below until
	live      int64 // the others
	lost      int64 // publications that were left out
	wrong     int64 // publications with the payload of another offset
}

// joinScratch is what one read of a joiner takes: a few hundred records.
const joinScratch = 32 << 10

func (r *recovery) newJoiner(i int) *joiner {
	j := &joiner{recovery: r, caller: newCaller(r.Protocol, r.phase, r.clock, i, joinScratch)}
	j.leads[0].inEpoch([]byte(r.ledger.epoch)) // unless it is the scout, which finds it out
	j.joined = j.publication
	j.door = byAddress{j}
	if r.target.audience != nil {
		j.door = &bySubscription{joiner: j}
	}
	return j
}

// door is how a client joins and leaves. Both give a failure of the connection, after
// which it is gone.
type door interface {
	// ready does what comes before a position is chosen, which grows old.
	ready(ctx context.Context) error
	// enter joins behind the publication that since names, or with what comes next
	// when it names none, and feeds what has come by then.
	enter(ctx context.Context, since *position) error
	leave() error
	// hint says what a server may lack that tells no position.
	hint() string
}

// byAddress joins with a connection whose address has the position.
type byAddress struct{ *joiner }

// publication checks one payload against its offset, and that none before it is missing.
func (j *joiner) publication(_ *conn, s stamp, _ int64) {
	if j.gaps > j.told {
		j.told, j.next = j.gaps, 0
	}
	switch {
	case j.at > 0 && !j.recovery.ledger.got(s.seq, j.at):
		j.wrong++
		j.next++ // it came in place of that
	case s.seq < j.next: // repeated, and counted as that
	default:
		if j.next > 0 {
			j.lost += int64(s.seq - j.next)
		}
		if j.next = s.seq + 1; s.seq < j.until {
			j.recovered++
		} else {
			j.live++
		}
	}
}

// run joins until the run's joins have been dealt.
func (j *joiner) run(ctx context.Context) {
	defer j.drop()
	for ctx.Err() == nil && j.recovery.begun.Add(1) <= int64(j.recovery.Joins) {
		var took time.Duration
		err := j.door.ready(ctx)
		if err == nil {
			took, err = j.join(ctx)
		}
		if err != nil && ctx.Err() != nil {
			return // interrupted: neither complete nor failed
		}
		j.recovery.outcome(took, err)
	}
}

// since chooses a position: behind what this client saw last, as one that comes back
// does, or behind one of all recent publications.
func (j *joiner) since() uint64 {
	l := &j.recovery.ledger
	if j.next == 0 || rand.IntN(2) == 0 {
		head := l.head()
		j.next = head - min(rand.Uint32N(uint32(j.recovery.Behind)+1), head-1)
	}
	for ; j.next > 1; j.next-- {
		if offset := l.offset(j.next - 1); offset > 0 {
			return offset
		}
	}
	return l.offset(0)
}

// join connects with a position and stays until enough is live. It returns the
// time after which everything that was missed had come.
func (j *joiner) join(ctx context.Context) (caughtUp time.Duration, err error) {
	r := j.recovery
	since := j.since()
	begin := r.clock.now()
	if err := j.door.enter(ctx, &position{r.ledger.epoch, since}); err != nil {
		return 0, err
	}
	enough := j.until + uint32(r.Live)
	for err == nil && j.next < enough {
		if caughtUp == 0 && j.next >= j.until {
			caughtUp = time.Duration(r.clock.now() - begin)
		}
		err = j.read()
	}
	if caughtUp == 0 {
		caughtUp = time.Duration(r.clock.now() - begin)
	}
	if err == nil {
		err = j.door.leave()
	}
	if err != nil {
		j.drop()
		return 0, fmt.Errorf("joined from offset %d when %d messages were published, and reached offset %d after %d: %w", since, j.until, j.conn.stands.offset, j.next, err)
	}
	return caughtUp, nil
}

// stand begins a join: behind since, with all that is published by now to be recovered.
func (j *joiner) stand(since *position) {
	if since != nil {
		j.until = j.recovery.ledger.head()
		j.conn.stands = standing{true, since.offset}
	}
}

// stay is how long a join may take beyond the server's patience.
func (j *joiner) stay() time.Duration {
	r := j.recovery
	return r.Timeout + time.Duration(2*float64(r.Live)/r.Rate*float64(time.Second))
}

// drop ends the connection if there is one.
func (j *joiner) drop() {
	if j.connected() {
		j.reset()
	}
}

func (j byAddress) hint() string {
	return "does the server support ?since=, and does it keep a history?"
}

func (j byAddress) ready(context.Context) error { return nil }

func (j byAddress) enter(ctx context.Context, since *position) error {
	r := j.recovery
	t := r.target
	at := "now"
	if since != nil {
		at = since.epoch + ":" + strconv.FormatUint(since.offset, 10)
	}
	u := *t.url
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += "since=" + at
	t.url = &u
	early, err := j.connect(ctx, t, j.stay())
	if err != nil {
		return err
	}
	j.stand(since)
	if err := j.feed(&j.conn, early, r.clock.now()); err != nil {
		j.drop()
		return err
	}
	return nil
}

func (j byAddress) leave() error {
	j.drop()
	return nil
}

// newScout connects a client that finds out what the ledger begins with. It reads
// the position at which it has joined.
func (r *recovery) newScout(ctx context.Context) (*joiner, error) {
	j := r.newJoiner(0)
	err := j.door.ready(ctx)
	if err == nil {
		err = j.door.enter(ctx, nil)
	}
	if err != nil {
		return nil, err
	}
	for err == nil && len(j.leads[0].epoch) == 0 {
		err = j.read()
	}
	if err != nil {
		j.drop()
		return nil, fmt.Errorf("%s: the server sent no position: %w; %s", r.target.url, err, j.door.hint())
	}
	return j, nil
}

// find waits for the run's first publication, and ends the connection.
func (j *joiner) find() error {
	defer j.drop()
	l := &j.recovery.ledger
	for l.head() == 0 {
		if err := j.read(); err != nil {
			return fmt.Errorf("no message arrived: %w; do the publisher and the clients use the same channel (--path, --publish-url)?", err)
		}
	}
	l.epoch = string(j.leads[0].epoch)
	return nil
}
