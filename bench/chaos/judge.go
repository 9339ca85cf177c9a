package main

import (
	"fmt"

	"sluice/bench/trial"
)

// Names of the counters that Judge needs: sums over labels, and one of a label.
const (
	counterPublished = "publications_total{api}"
	counterDelivered = "deliveries_total"
	counterRecovered = "recovered_publications_total"
	counterDropped   = "dropped_publications_total"
	counterSkipped   = "dropped_publications_total{skip}"
)

// judge is the state of one judgement.
type judge struct {
	ledger *Ledger
	faults map[string][]string // by check; the first few
	counts map[string]int

	received, skipped uint64
	broken            uint64 // connections that were cut off
	unread            uint64 // most that these can have left in the kernels
	due               uint64 // what was published after clients' positions, while they were there ...
	partly            bool   // ... which is not known of all
	moved             uint64 // beginnings and ends of connections while something was published
}

// Judge checks C1 to C6 (see the package comment), and "whole": that no client that must
// receive everything has lost anything.
func Judge(l *Ledger) []trial.Check {
	j := &judge{ledger: l, faults: map[string][]string{}, counts: map[string]int{}}
	whole := 0
	for i := range l.Clients {
		a := &l.Clients[i]
		j.account(a)
		if a.Whole {
			whole++
			j.whole(a)
		}
	}
	seen := fmt.Sprintf("%d clients, %d publications received", len(l.Clients), j.received)
	checks := []trial.Check{
		j.check("C1", seen), j.check("C2", seen), j.check("C3", seen), j.check("C4", seen), j.check("C5", seen),
		j.check("whole", fmt.Sprintf("%d clients have everything", whole)),
	}
	return append(checks, j.counters()...)
}

func (j *judge) fault(check string, a *Account, format string, args ...any) {
	j.counts[check]++
	if len(j.faults[check]) < 3 {
		j.faults[check] = append(j.faults[check], a.Name+": "+fmt.Sprintf(format, args...))
	}
}

func (j *judge) check(name, seen string) trial.Check {
	if n := j.counts[name]; n > 0 {
		return trial.Check{Name: name, Verdict: trial.Fail, Detail: fmt.Sprintf("%d times, for example %q", n, j.faults[name])}
	}
	return trial.Check{Name: name, Verdict: trial.Pass, Detail: seen}
}

// walk is where a client is in its account.
type walk struct {
	epoch   string // "": no position is known
	last    uint64
	resumed bool    // nothing has come on this connection, which began with a position
	open    bool    // there is a connection
	from    uint64  // the position where its first connection began; 0, too, where it has none
	whole   bool    // that is known, and it is the first connection
	runs    []Event // of this epoch, to tell a repeat from a late one
}

// account goes over what a client wrote down.
func (j *judge) account(a *Account) {
	var w walk
	for i, e := range a.Events {
		switch e.Kind {
		case Joined:
			w = walk{open: true}
			j.partly = j.partly || i > 0
		case Resumed:
			w.open, w.resumed, w.whole = true, true, false
			j.moved++
		case Position:
			if o := j.ledger.order(a.Channel, e.Epoch); o != nil && o.between(0, e.Last) > 0 {
				j.moved++ // else it was there before anything was published
			}
			w.epoch, w.last, w.resumed = e.Epoch, e.Last, false
			w.from, w.whole = e.Last, i == 1
		case Gap:
			j.gap(a, &w, e)
		case Got:
			j.run(a, &w, e)
		case Closed:
			w.open = false
			j.moved++
		case Broken:
			w.open = false
			j.moved++
			j.broken++
			if o := j.ledger.order(a.Channel, w.epoch); o != nil {
				j.unread += o.between(w.last, o.Last())
			}
		case Garbled:
			w.open = false
			j.fault("C1", a, "%s", e.Text)
		case Stayed:
			w.open = false
			j.tail(a, &w)
		}
	}
	if w.open {
		j.fault("C4", a, "its record has no end")
	}
	o := j.ledger.order(a.Channel, w.epoch)
	if n := len(a.Events); !w.whole || o == nil || a.Events[n-1].Kind != Stayed {
		j.partly = true // when the gateway counted it no longer, it cannot know
	} else {
		j.due += o.between(w.from, o.Last())
	}
}

func (j *judge) gap(a *Account, w *walk, e Event) {
	switch {
	case w.epoch == e.Epoch && e.Last < w.last:
		j.fault("C2", a, "a gap record goes back from offset %d to %d", w.last, e.Last)
	case w.epoch == e.Epoch && !w.resumed:
		j.skipped += j.ledger.order(a.Channel, e.Epoch).between(w.last, e.Last)
	}
	if w.epoch != e.Epoch {
		w.runs = nil
	}
	w.epoch, w.last, w.resumed = e.Epoch, e.Last, false
}

func (j *judge) run(a *Account, w *walk, e Event) {
	j.received += e.Count
	if o := j.ledger.order(a.Channel, e.Epoch); o == nil {
		j.fault("C1", a, "got offsets %d to %d of epoch %s, in which nothing was published", e.First, e.Last, e.Epoch)
	} else if sum, count, ok := o.sum(e.First, e.Last); !ok {
		j.fault("C1", a, "got offsets %d to %d, which were not both published (the last is %d)", e.First, e.Last, o.Last())
	} else if count != e.Count {
		j.fault("C2", a, "%d messages with offsets %d to %d, of which each names the one before: %d were published", e.Count, e.First, e.Last, count)
	} else if sum != e.Hash {
		j.fault("C1", a, "the payloads of offsets %d to %d differ from what was published", e.First, e.Last)
	} else if prev := o.prev(e.First); prev > 0 && e.Prev != prev && !(o.unknown && e.Prev > prev) {
		j.fault("C2", a, "offset %d names %d as the one before, which is %d", e.First, e.Prev, prev)
	}
	silent := "C4"
	if w.resumed {
		silent = "C5"
	}
	switch {
	case w.epoch == "":
	case w.epoch != e.Epoch:
		j.fault(silent, a, "epoch %s follows %s without a gap record", e.Epoch, w.epoch)
		w.runs = nil
	case e.Prev > w.last:
		j.fault(silent, a, "offset %d, the one after %d, follows %d without a gap record", e.First, e.Prev, w.last)
	case e.First <= w.last:
		j.backwards(a, w, e)
	}
	w.runs = append(w.runs, e)
	w.epoch, w.last, w.resumed = e.Epoch, max(e.Last, w.last), false
	if len(w.runs) == 1 {
		w.last = e.Last
	}
}

// backwards tells a repeat from what comes too late.
func (j *judge) backwards(a *Account, w *walk, e Event) {
	for _, r := range w.runs {
		if e.First <= r.Last && r.First <= e.Last {
			j.fault("C3", a, "got offsets %d to %d again, after %d to %d", e.First, e.Last, r.First, r.Last)
			return
		}
	}
	j.fault("C2", a, "offset %d arrived after %d", e.First, w.last)
}

// tail: a client that stayed to the end must have the last publication.
func (j *judge) tail(a *Account, w *walk) {
	var end *Order
	for _, o := range j.ledger.Orders {
		if o.Channel == a.Channel {
			end = o // orders of a channel are in the order of their beginning
		}
	}
	switch {
	case end == nil || w.epoch == "" && len(end.Hashes) == 0:
	case w.epoch != end.Epoch:
		j.fault("C4", a, "stayed to the end in epoch %q, but publishing went on in %q", w.epoch, end.Epoch)
	case w.last < end.Last():
		j.fault("C4", a, "stayed to the end, but received nothing after offset %d of %d", w.last, end.Last())
	}
}

// whole: a client that does nothing bad has one connection, and no loss. That
// it has no hole is C4.
func (j *judge) whole(a *Account) {
	n := len(a.Events)
	switch {
	case n == 0 || a.Events[0].Kind != Joined || a.Events[n-1].Kind != Stayed:
		j.fault("whole", a, "did not stay to the end: %v", tailOf(a.Events))
	case a.gaps():
		j.fault("whole", a, "got a gap record")
	}
}

// tailOf returns the last events for a sentence.
func tailOf(events []Event) (kinds []string) {
	for _, e := range events[max(len(events)-3, 0):] {
		kinds = append(kinds, fmt.Sprintf("%s %d %s", e.Kind, max(e.Code, int(e.Last)), e.Text))
	}
	return kinds
}

// counters decides C6: see the package's comment.
func (j *judge) counters() []trial.Check {
	var published, due uint64
	for _, o := range j.ledger.Orders {
		published += uint64(len(o.Hashes))
		due += o.Subscribers
	}
	delivered, _ := j.ledger.counter(counterDelivered)
	recovered, _ := j.ledger.counter(counterRecovered)
	dropped, _ := j.ledger.counter(counterDropped)
	skipped, _ := j.ledger.counter(counterSkipped)
	return []trial.Check{
		j.equal("C6 published", published, counterValue(j.ledger, counterPublished), 0, "receipts", "counted as published", counterPublished),
		j.atMost("C6 received", j.received, delivered+recovered, counterDelivered, counterRecovered),
		j.dropped(due, delivered, recovered, dropped),
		j.equal("C6 skipped", j.skipped, skipped, 0, "missing at gap records", "counted as skipped", counterDropped),
	}
}

// dropped compares what was due with what became of it: from the ledgers, where they
// know it all; else from the receipts.
func (j *judge) dropped(subscribers, delivered, recovered, dropped uint64) trial.Check {
	became := fmt.Sprintf("delivered and dropped (%d)", dropped)
	if !j.partly {
		return j.equal("C6 dropped", j.due, delivered+recovered+dropped, 0, "due to the clients", became, counterDelivered, counterDropped)
	}
	return j.equal("C6 dropped", subscribers, delivered+dropped, j.moved+j.skipped, "expected from the subscriber counts in the receipts", became, counterDelivered, counterDropped)
}

func counterValue(l *Ledger, name string) uint64 {
	v, _ := l.counter(name) // where there is none, equal says so
	return v
}

// missing returns the check of counters that the gateway does not have.
func (j *judge) missing(name string, needs []string) (trial.Check, bool) {
	for _, c := range needs {
		if _, ok := j.ledger.counter(c); !ok {
			return trial.Check{Name: name, Verdict: trial.Fail, Detail: "the gateway has no sluice_" + c}, true
		}
	}
	return trial.Check{}, false
}

func (j *judge) equal(name string, want, got, tolerance uint64, wantIs, gotIs string, needs ...string) trial.Check {
	if c, missing := j.missing(name, needs); missing {
		return c
	}
	c := trial.Check{Name: name, Verdict: trial.Pass, Detail: fmt.Sprintf("%d %s = %d %s", want, wantIs, got, gotIs)}
	if tolerance > 0 {
		c.Detail += fmt.Sprintf(", off by %d; up to %d is allowed for connections that began, ended or were skipped while publishing", int64(got-want), tolerance)
	}
	if max(want, got)-min(want, got) > tolerance {
		c.Verdict = trial.Fail
	}
	return c
}

func (j *judge) atMost(name string, received, sent uint64, needs ...string) trial.Check {
	if c, missing := j.missing(name, needs); missing {
		return c
	}
	c := trial.Check{Name: name, Verdict: trial.Pass, Detail: fmt.Sprintf("%d received = %d delivered and recovered", received, sent)}
	if j.broken > 0 {
		c.Detail = fmt.Sprintf("%d received, %d delivered and recovered: the other %d were in kernel buffers of %d connections that were cut off, which can have held %d", received, sent, int64(sent-received), j.broken, j.unread)
	}
	if received > sent || sent-received > j.unread {
		c.Verdict = trial.Fail
	}
	return c
}
