package nats

import (
	"context"
	"errors"
	"math"
	"slices"
)

const (
	headsInBatch = 1024 // subjects of one question; a server answers no more
	headsBytes   = 256 << 10
	headsAtOnce  = 256 // questions that are under way, where there are no batches
)

// head is the newest message of a channel.
type head struct {
	// seq is its sequence. If there is no message, it is one up to which the stream has none of the
	// channel; 0 if no server that was asked is sure.
	seq   uint64
	msg   []byte
	found bool
	// upTo is the newest sequence that the replica had which has answered; 0 if it does not say.
	upTo uint64
}

// heads returns the newest messages of channels, in the order of their names. Any replica answers, which may
// be behind.
func (st *stream) heads(ctx context.Context, names []string) ([]head, error) {
	all := make([]head, len(names))
	in, err := st.link.inbox()
	if err != nil {
		return nil, err
	}
	defer in.end()
	sure := uint64(0) // up to where one without a message has none
	if st.single {
		// The only server knows it before it is asked for heads.
		s, err := st.state(ctx)
		if err != nil {
			return nil, err
		}
		sure = s.last
	}
	batches := st.link.batches()
	for from := 0; from < len(names); {
		to, size := from, 0
		for to < len(names) && to-from < headsInBatch && size < headsBytes {
			size += len(names[to])*4/3 + len(st.prefix) + 4
			to++
		}
		if batches {
			err := st.headsOfBatch(ctx, in, names[from:to], all[from:to], sure)
			if errors.Is(err, errNoBatches) {
				batches = false
				continue
			}
			if err != nil {
				return nil, err
			}
		} else if err := st.headsOneByOne(ctx, in, names[from:to], all[from:to], sure); err != nil {
			return nil, err
		}
		from = to
	}
	return all, nil
}

// headsOfBatch asks for up to headsInBatch channels at once.
func (st *stream) headsOfBatch(ctx context.Context, in *inbox, names []string, heads []head, sure uint64) error {
	index := make(map[string]int, len(names))
	subjects := make([]string, len(names))
	for i, name := range names {
		subjects[i] = st.subject(name)
		index[subjects[i]] = i
	}
	least := uint64(math.MaxUint64) // up to where the replicas that have answered are sure
	ask := directGet{MultiLast: subjects, MaxBytes: batchBytes}
	for late, more := 0, true; more; {
		e, err := in.batch(ctx, st.name, ask, func(a *answer) {
			if i, ok := index[a.subject]; ok {
				heads[i] = head{seq: a.seq, msg: a.data, found: true}
			}
		})
		switch {
		case errors.Is(err, errLate) && late < lateTries:
			late++
		case err != nil:
			return err
		case e.single:
			return errShort
		default:
			least = min(least, e.upTo) // 0 where it has none of them
			more = e.pending > 0
		}
		ask.Seq = max(ask.Seq, e.last+1) // the answer is in the order of sequences
	}
	for i := range heads {
		if heads[i].upTo = least; !heads[i].found {
			heads[i].seq = max(sure, least)
		}
	}
	return nil
}

// headsOneByOne asks for each channel, many at a time.
func (st *stream) headsOneByOne(ctx context.Context, in *inbox, names []string, heads []head, sure uint64) error {
	begin := in.round + 1 // of the questions' tags
	in.round += len(names)
	answered := make([]bool, len(names))
	asked, got, late := 0, 0, 0
	for got < len(names) {
		for ; asked < len(names) && asked-got < headsAtOnce; asked++ {
			if answered[asked] { // before it was asked again
				continue
			}
			if err := in.ask(st.name, begin+asked, directGet{LastBy: st.subject(names[asked])}); err != nil {
				return err
			}
		}
		a, err := in.next(ctx)
		if errors.Is(err, errLate) && late < lateTries {
			late++
			asked = slices.Index(answered, false)
			continue
		}
		if err != nil {
			return err
		}
		i := a.tag - begin
		if i < 0 || i >= len(names) || answered[i] {
			continue // of an earlier question
		}
		switch a.status {
		case 0:
			heads[i] = head{seq: a.seq, msg: a.data, found: true}
		case statusNone:
			heads[i] = head{seq: sure}
		default:
			return a.fault()
		}
		answered[i] = true
		got++
	}
	return nil
}
