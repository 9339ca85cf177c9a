package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Where the order of a channel is each node's own (a channel without history, on several nodes), a
// receipt has no position, and clients of different nodes have different orders. What must hold is
// checked by the numbers that authors give their publications: they grow, and one with a receipt
// is missing only where the client was notified.

// Numbers is what one client wrote down of a channel whose order is each node's own.
type Numbers struct {
	Name   string            `json:"name"`
	Runs   map[string][]Span `json:"runs"` // by author
	Stayed bool              `json:"stayed"`
	Faults []string          `json:"faults,omitempty"` // in the offsets of its records

	begins int // how often it has begun: it joined, or was notified of a gap
	epoch  string
	offset uint64
}

// Span is publications of one author with successive numbers.
type Span struct {
	Begin int    `json:"begin"` // of Numbers.begins
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
	Hash  uint64 `json:"hash"` // chain over its payloads
}

// begin notes that what comes next need not follow what came before.
func (n *Numbers) begin(epoch string, offset uint64) {
	n.begins++
	n.epoch, n.offset = epoch, offset
}

// stands notes a position without a gap: after it, everything follows.
func (n *Numbers) stands(epoch string, offset uint64) {
	if n.epoch != "" && (n.epoch != epoch || n.offset != offset) {
		n.fault("came back at %s:%d without a gap, and was at %s:%d", epoch, offset, n.epoch, n.offset)
	}
	if n.epoch == "" {
		n.begins++
	}
	n.epoch, n.offset = epoch, offset
}

// got notes a publication.
func (n *Numbers) got(epoch string, offset, prev uint64, payload []byte) {
	if epoch != n.epoch || prev != n.offset || offset <= prev {
		n.fault("%s:%d, after offset %d, follows %s:%d without a gap record", epoch, offset, prev, n.epoch, n.offset)
	}
	n.epoch, n.offset = epoch, offset
	name, number, _, ok := authorOf(payload)
	if !ok {
		n.fault("offset %d was published by nobody: %.40q", offset, payload)
		return
	}
	runs := n.Runs[string(name)]
	if i := len(runs) - 1; i >= 0 && runs[i].Begin == n.begins && runs[i].Last+1 == number {
		runs[i].Last, runs[i].Hash = number, chain(runs[i].Hash, hashOf(payload))
		return
	}
	n.Runs[string(name)] = append(runs, Span{n.begins, number, number, hashOf(payload)})
}

func (n *Numbers) fault(format string, args ...any) {
	if len(n.Faults) < 3 {
		n.Faults = append(n.Faults, fmt.Sprintf(format, args...))
	}
}

// written is what an author has published to a channel.
type written struct {
	name   string
	hashes []uint64
	acked  []bool

	running []uint64
	ackedTo []int // by number: how many before it have a receipt
}

func newWritten(name string, hashes []uint64, acked []bool) *written {
	w := &written{name: name, hashes: hashes, acked: acked, running: []uint64{0}, ackedTo: []int{0}}
	for i, h := range hashes {
		n := w.ackedTo[i]
		if acked[i] {
			n++
		}
		w.running, w.ackedTo = append(w.running, chain(w.running[i], h)), append(w.ackedTo, n)
	}
	return w
}

// missing counts publications with a receipt, from one number up to another.
func (w *written) missing(from, to uint64) int {
	if from > to {
		return 0
	}
	return w.ackedTo[to] - w.ackedTo[from-1]
}

// judgeNumbers checks what clients of a channel wrote down against what its authors published. fault
// is called for what is wrong.
func judgeNumbers(authors []*written, clients []*Numbers, fault func(check, format string, args ...any)) (received uint64) {
	byName := map[string]*written{}
	for _, w := range authors {
		byName[w.name] = w
	}
	for _, c := range clients {
		for _, text := range c.Faults {
			fault("C4", "%s: %s", c.Name, text)
		}
		for _, name := range slices.SortedFunc(maps.Keys(c.Runs), cmp.Compare) {
			if byName[name] == nil {
				fault("C1", "%s: got publications of %s, who has published none", c.Name, name)
			}
		}
		for _, w := range authors {
			received += c.judge(w, fault)
		}
	}
	return received
}

// judge checks what a client has of one author.
func (n *Numbers) judge(w *written, fault func(check, format string, args ...any)) (received uint64) {
	begin, last := -1, uint64(0)
	all := uint64(len(w.hashes))
	runs := n.Runs[w.name]
	for i, run := range runs {
		received += run.Last - run.First + 1
		twice := func(r Span) bool { return run.First <= r.Last && r.First <= run.Last }
		switch {
		case run.First == 0 || run.Last > all:
			fault("C1", "%s: got numbers %d to %d of %s, who has published %d", n.Name, run.First, run.Last, w.name, all)
			continue
		case w.running[run.Last]-w.running[run.First-1]*power(run.Last-run.First+1) != run.Hash:
			fault("C1", "%s: the payloads of numbers %d to %d of %s differ from what was published", n.Name, run.First, run.Last, w.name)
		case slices.ContainsFunc(runs[:i], twice):
			fault("C3", "%s: got numbers %d to %d of %s again", n.Name, run.First, run.Last, w.name)
		case run.First <= last && w.missing(run.First, run.Last) > 0: // one without a receipt may come late
			fault("C2", "%s: got number %d of %s after number %d", n.Name, run.First, w.name, last)
		case run.Begin == begin && w.missing(last+1, run.First-1) > 0:
			fault("C4", "%s: number %d of %s follows number %d, %d between have a receipt, and no gap record", n.Name, run.First, w.name, last, w.missing(last+1, run.First-1))
		}
		begin, last = run.Begin, max(last, run.Last)
	}
	if n.Stayed && all > 0 && w.missing(last+1, all) > 0 {
		fault("C4", "%s: stayed to the end, but received nothing of %s after number %d of %d", n.Name, w.name, last, all)
	}
	return received
}
