package nats

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/gateway/channel"
)

// How streams are read. Any replica answers a direct get: one that is behind answers short, and says
// nothing about it. The stream's leader answers questions to the API. So a reading asks the leader for
// the channel's head, reads until it has that, and asks the leader for the stream's state afterwards, which
// decides what is missing in front.

const (
	shortAgain = 10 * time.Millisecond
	shortTries = 200
	lateTries  = 3 // how often a direct get that nobody has answered is asked again
)

// stored is a message of a stream.
type stored struct {
	seq  uint64
	data []byte
}

// reading is what a stream keeps of a channel.
type reading struct {
	// msgs are all messages above floor, and above what was asked for, in their order.
	msgs []stored
	// floor is the sequence of the newest message that may be missing. It is below what was asked for if
	// nothing is missing since then.
	floor uint64
	// under is the message at floor, if it is still there: it may be a tombstone. Else its data is nil.
	under stored
	// head is the sequence of the newest message. If there is none, nothing that the channel ever had up
	// to head is kept.
	head  uint64
	epoch channel.Epoch
	none  bool // there is no message
}

// attempt is a reading of a channel above a sequence.
type attempt struct {
	st      *stream
	subject string
	above   uint64
	from    uint64 // where the piece begins
	tries   int
	batches int // that had messages

	// While a piece is being read.
	at     uint64        // where it goes on; 0 before it begins
	before channel.Epoch // the stream's when it began
	want   uint64        // the leader's head then
	piece  piece
}

func (st *stream) attempt(name string, above uint64) *attempt {
	return &attempt{st: st, subject: st.subject(name), above: above, from: max(above, 1)} // that one, too: if it is still there, nothing is missing since then
}

// read returns what the stream keeps of the channel, complete up to what its leader has now. After an error it can be
// called again, and goes on.
func (a *attempt) read(ctx context.Context) (reading, error) {
	for {
		r, outcome, err := a.once(ctx)
		if err != nil || outcome == readAll {
			return r, err
		}
		a.at = 0
		if outcome == readMore {
			a.from = 1
			continue
		}
		if a.tries++; a.tries == shortTries {
			return reading{}, errShort
		}
		if err := pause(ctx, shortAgain); err != nil {
			return reading{}, err
		}
	}
}

// outcome says whether what was read is a reading.
type outcome int

const (
	readAll   outcome = iota
	readAgain         // it does not fit together: a replica is behind, or the stream was made anew
	readMore          // what is below has to be known, to say what is missing
)

// once reads a piece, or the rest of one, and decides what it is.
func (a *attempt) once(ctx context.Context) (r reading, _ outcome, err error) {
	st, p, above := a.st, &a.piece, a.above
	if a.at == 0 {
		before := st.epoch()
		var want stored
		if !st.single {
			if want, err = st.leaderHead(ctx, a.subject); err != nil {
				return r, 0, err
			}
		}
		a.at, a.before, a.want, a.piece = a.from, before, want.seq, piece{most: st.readBytes}
	}
	if err = a.readOn(ctx); err != nil {
		return r, 0, err
	}
	if a.want > above && p.last() < a.want {
		return r, readAgain, nil // by a replica that is behind
	}
	s, err := st.state(ctx)
	if err != nil {
		return r, 0, err
	}
	if s.epoch != a.before {
		return r, readAgain, nil
	}
	r.epoch, r.head = s.epoch, p.last()
	if r.head == 0 {
		// Nothing was there. Where the channel is then depends on what the stream has, if there still is
		// nothing of it after that.
		want, err := st.leaderHead(ctx, a.subject)
		if err != nil || want.seq > above {
			return r, readAgain, err
		}
		r.head, r.none = want.seq, want.seq == 0
		if r.none {
			r.head = s.last
		}
	}
	joins := above > 0 && len(p.msgs) > 0 && p.msgs[0].seq == above
	if joins && p.cut == 0 && len(p.msgs) <= s.limit && s.first <= above {
		r.floor, r.under, r.msgs = above, p.msgs[0], p.msgs[1:]
		return r, readAll, nil
	}
	if a.from > 1 && len(p.msgs) > 0 && p.msgs[0].seq <= s.raised && p.cut == 0 {
		return r, readMore, nil
	}
	r.floor, r.under, r.msgs = keptOf(p.msgs, p.cut, s)
	for len(r.msgs) > 0 && r.msgs[0].seq <= above {
		r.msgs = r.msgs[1:]
	}
	return r, readAll, nil
}

// keptOf returns which of a channel's messages are complete, and what is below them. More than the limit are
// read while others are dropped: then something may be missing between the older ones.
func keptOf(msgs []stored, cut uint64, s state) (floor uint64, under stored, kept []stored) {
	kept = msgs
	if s.limit > 0 && len(kept) > s.limit {
		kept = kept[len(kept)-s.limit:]
	}
	switch {
	case len(kept) > 0 && s.limit > 0 && len(kept) == s.limit:
		floor = kept[0].seq
	case len(kept) == 0 || kept[0].seq > s.raised:
		// Nothing of the channel was dropped but with the front of the stream.
	default:
		floor = kept[0].seq - 1
	}
	if s.first > 0 {
		floor = max(floor, s.first-1)
	}
	floor = max(floor, cut)
	for len(kept) > 0 && kept[0].seq <= floor {
		if kept[0].seq == floor {
			under = kept[0]
		}
		kept = kept[1:]
	}
	return floor, under, kept
}

// piece is what was read so far.
type piece struct {
	msgs  []stored
	bytes int
	most  int    // bytes: the oldest are dropped
	cut   uint64 // sequence of the newest that was dropped
}

func (p *piece) add(m stored) {
	p.msgs = append(p.msgs, m)
	p.bytes += len(m.data)
	for p.bytes > p.most && len(p.msgs) > 1 {
		p.cut = p.msgs[0].seq
		p.bytes -= len(p.msgs[0].data)
		p.msgs = p.msgs[1:]
	}
}

func (p *piece) last() uint64 {
	if len(p.msgs) == 0 {
		return p.cut
	}
	return p.msgs[len(p.msgs)-1].seq
}

// readOn adds messages to the piece, up to its end.
func (a *attempt) readOn(ctx context.Context) error {
	in, err := a.st.link.inbox()
	if err != nil {
		return err
	}
	defer in.end()
	for late := 0; ; {
		e, err := in.batch(ctx, a.st.name, directGet{Seq: a.at, NextBy: a.subject, Batch: batchMessages, MaxBytes: batchBytes},
			func(m *answer) { a.piece.add(stored{m.seq, m.data}) })
		if e.last >= a.at {
			a.at = e.last + 1
			a.batches++
		}
		switch {
		case errors.Is(err, errLate) && late < lateTries: // by another replica, perhaps
			late++
		case err != nil:
			return err
		case e.none || e.pending == 0 && !e.single:
			return nil
		}
	}
}

// leaderHead asks the stream's leader for the newest message; its sequence is 0 if there is none.
func (st *stream) leaderHead(ctx context.Context, subject string) (stored, error) {
	var answer struct {
		Message struct {
			Seq  uint64 `json:"seq"`
			Data []byte `json:"data"`
		} `json:"message"`
	}
	err := st.link.api(ctx, "STREAM.MSG.GET."+st.name, map[string]string{"last_by_subj": subject}, &answer)
	if hasCode(err, codeNoMessage) {
		return stored{}, nil
	}
	return stored{answer.Message.Seq, answer.Message.Data}, err
}

// purge removes the messages of a channel below a sequence.
func (st *stream) purge(ctx context.Context, name string, below uint64) error {
	return st.link.api(ctx, "STREAM.PURGE."+st.name, map[string]any{"filter": st.subject(name), "seq": below}, nil)
}

// pause waits, unless ctx ends before.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", errAway, ctx.Err())
	}
}
