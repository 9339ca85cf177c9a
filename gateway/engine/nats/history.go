package nats

import (
	"slices"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
)

// What a stream keeps of a channel becomes the channel's history: publications above a floor, which is the
// position of the newest one that is not kept. What is older than the namespace says is below the floor, too,
// although the stream still has it, and so is what a tombstone has removed. A tombstone stands for the
// newest publication that it removes: clients never see its own sequence as an offset.
//
// A query of it has the same answer as one of the local engine (channel.Collected).

// kept is a channel's history.
type kept struct {
	epoch channel.Epoch
	pubs  []channel.Publication // in their order; their payloads are the reading's
	floor uint64
	// newest is the offset of the newest publication. upTo is the position up to which the channel has no
	// other: a client there has missed nothing.
	newest, upTo uint64
	// last is the sequence of the newest message, which a tombstone's may be: what the next one follows.
	last uint64
}

// kept returns the history of a channel that was read from its beginning (above 0). Publications from before
// now-ttl, in the unit of Publication.At, have expired.
func (r *reading) kept(name string, ttl, now int64) kept {
	k := kept{epoch: r.epoch, floor: r.floor, newest: r.head, upTo: r.head, last: r.head}
	if r.none {
		k.last = 0
	}
	if m, err := parseMessage(r.under.data); err == nil && m.tombstone {
		k.floor = m.removed
		if len(r.msgs) == 0 {
			k.newest = m.removed
		}
	}
	for _, s := range r.msgs {
		m, err := parseMessage(s.data)
		switch {
		case err != nil: // of a newer version: nobody here can read it, nor say what was before it
			k.pubs, k.floor, k.newest = k.pubs[:0], s.seq, s.seq
		case m.tombstone:
			k.pubs, k.floor, k.newest = k.pubs[:0], m.removed, m.removed
		default:
			p := m.Publication
			p.Channel, p.Epoch, p.Offset = name, r.epoch, s.seq
			k.pubs, k.newest = append(k.pubs, p), s.seq
		}
	}
	expired := 0
	for expired < len(k.pubs) && k.pubs[expired].At < now-ttl {
		k.floor = k.pubs[expired].Offset
		expired++
	}
	k.pubs = k.pubs[expired:]
	prev := k.floor
	for i := range k.pubs {
		k.pubs[i].Prev, prev = prev, k.pubs[i].Offset
	}
	return k
}

// after returns the index of the first publication above an offset.
func (k *kept) after(offset uint64) int {
	i, _ := slices.BinarySearchFunc(k.pubs, offset, func(p channel.Publication, offset uint64) int {
		if p.Offset > offset {
			return 1
		}
		return -1
	})
	return i
}

// collect answers a query. Its error is ErrEpoch.
func (k *kept) collect(q engine.HistoryQuery) (channel.Collected, error) {
	newest := channel.Position{Epoch: k.epoch, Offset: k.newest}
	out := channel.Collected{From: newest, To: newest, Newest: newest}
	ask := channel.Ask{Kind: channel.AskNewest, N: len(k.pubs)}
	if q.Since != nil {
		ask = *q.Since
	} else if q.Back {
		ask = channel.Ask{Kind: channel.AskNow}
	}
	if ask.Kind == channel.AskOffset {
		ask.Kind, ask.At.Epoch = channel.AskSince, k.epoch
	}
	if ask.Kind == channel.AskSince && ask.At.Epoch != k.epoch {
		return channel.Collected{}, engine.ErrEpoch
	}
	if q.Back {
		end := len(k.pubs)
		if ask.Kind == channel.AskSince {
			out.From = ask.At
			if ask.At.Offset > 0 {
				end = k.after(ask.At.Offset - 1)
			}
		}
		k.add(&out, q, end-1, -1)
		if n := len(out.Publications); n > 0 {
			out.To.Offset = out.Publications[n-1].Offset
		} else {
			out.To = channel.Position{}
		}
		return out, nil
	}
	switch ask.Kind {
	case channel.AskSince:
		if out.Gap = ask.At.Offset < k.floor || ask.At.Offset > k.upTo; out.Gap {
			out.From.Offset = k.floor
		} else {
			out.From.Offset = ask.At.Offset
		}
	case channel.AskNewest:
		if i := len(k.pubs) - ask.N; ask.N > 0 && i > 0 {
			out.From.Offset = k.pubs[i-1].Offset
		} else if ask.N > 0 {
			out.From.Offset = k.floor
		}
	}
	k.add(&out, q, k.after(out.From.Offset), 1)
	if n := len(out.Publications); n > 0 {
		out.To.Offset = out.Publications[n-1].Offset
	} else if out.More {
		out.To = out.From
	}
	return out, nil
}

// add adds copies of publications from an index on, up to the query's bounds.
func (k *kept) add(out *channel.Collected, q engine.HistoryQuery, i, step int) {
	held := 0
	for ; i >= 0 && i < len(k.pubs); i += step {
		if q.Most.Count >= 0 && len(out.Publications) >= q.Most.Count || q.Most.Bytes > 0 && held >= q.Most.Bytes {
			out.More = true
			return
		}
		p := k.pubs[i]
		p.Payload, p.Extra = slices.Clone(p.Payload), slices.Clone(p.Extra)
		held += len(p.Payload) + len(p.Extra)
		out.Publications = append(out.Publications, p)
	}
}
