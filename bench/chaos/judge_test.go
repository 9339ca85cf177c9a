package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/bench/trial"
)

// nth is the offset of a forged publication.
func nth(n uint64) uint64 { return 3 * n }

// forged returns a ledger in which all is well: ten publications, two clients that stay,
// one that is skipped over 4 to 6, one that is cut after 3, comes back and is told of a gap to 5.
func forged() *Ledger {
	o := &Order{Channel: "x", Epoch: "e"}
	for i := range uint64(10) {
		o.Offsets = append(o.Offsets, nth(i+1))
		o.Hashes = append(o.Hashes, hashOf([]byte{byte(i)}))
	}
	o.Subscribers = 38 // the one that was cut is there for 1 to 3 and 6 to 10
	run := func(first, last uint64) Event {
		sum, count, _ := o.sum(nth(first), nth(last))
		return Event{Kind: Got, Epoch: "e", Prev: o.prev(nth(first)), First: nth(first), Last: nth(last), Count: count, Hash: sum}
	}
	position := Event{Kind: Position, Epoch: "e"}
	return &Ledger{
		Orders: []*Order{o},
		Clients: []Account{
			{Name: "good", Channel: "x", Whole: true, Events: []Event{{Kind: Joined}, position, run(1, 10), {Kind: Stayed}}},
			{Name: "also good", Channel: "x", Whole: true, Events: []Event{{Kind: Joined}, position, run(1, 10), {Kind: Stayed}}},
			{Name: "skipped", Channel: "x", Events: []Event{{Kind: Joined}, position, run(1, 3), {Kind: Gap, Epoch: "e", Last: nth(6)}, run(7, 10), {Kind: Stayed}}},
			{Name: "cut", Channel: "x", Events: []Event{{Kind: Joined}, position, run(1, 3), {Kind: Closed, Code: 1013},
				{Kind: Resumed}, {Kind: Gap, Epoch: "e", Last: nth(5)}, run(6, 10), {Kind: Stayed}}},
		},
		Counters: map[string]float64{counterPublished: 10, counterDelivered: 35, counterRecovered: 0, counterDropped: 3, counterSkipped: 3},
	}
}

func TestJudgeRefusesForgedLedgers(t *testing.T) {
	events := func(l *Ledger, client int, e ...Event) { l.Clients[client].Events = e }
	of := func(l *Ledger, client, event int) *Event { return &l.Clients[client].Events[event] }
	for _, tc := range []struct {
		name  string
		forge func(*Ledger)
		want  []string // checks that fail
	}{
		{"nothing", func(*Ledger) {}, nil},
		{"another payload", func(l *Ledger) { of(l, 0, 2).Hash++ }, []string{"C1"}},
		{"an offset that was never published", func(l *Ledger) {
			e := of(l, 0, 2)
			e.Last, e.Count = nth(11), 11
		}, []string{"C1", "C6 received"}},
		{"an epoch that nobody knows", func(l *Ledger) { of(l, 3, 6).Epoch = "f" }, []string{"C1", "C4"}},
		{"something that is no record", func(l *Ledger) { *of(l, 3, 3) = Event{Kind: Garbled} }, []string{"C1"}},
		{"a late one", func(l *Ledger) {
			late := *of(l, 2, 2)
			late.Prev, late.First, late.Last, late.Count = nth(4), nth(5), nth(5), 1
			late.Hash, _, _ = l.Orders[0].sum(nth(5), nth(5))
			l.Clients[2].Events = append(l.Clients[2].Events[:5:5], late, Event{Kind: Stayed})
		}, []string{"C2", "C6 received"}},
		{"a gap record that goes back", func(l *Ledger) { of(l, 3, 5).Last = nth(2) }, []string{"C2", "C4"}},
		{"a repeat", func(l *Ledger) {
			again := *of(l, 1, 2)
			events(l, 1, Event{Kind: Joined}, again, again, Event{Kind: Stayed})
		}, []string{"C3", "C6 received"}},
		{"a chain that leaves one out", func(l *Ledger) { of(l, 0, 2).Count-- }, []string{"C2", "C6 received"}},
		{"a wrong name for the one before", func(l *Ledger) { of(l, 2, 4).Prev = nth(5) }, []string{"C2"}},
		{"a hole", func(l *Ledger) { of(l, 2, 3).Kind = Position; of(l, 2, 3).Last = nth(3) }, []string{"C4", "C6 skipped"}},
		{"nothing at the end", func(l *Ledger) {
			e := of(l, 0, 2)
			e.Last, e.Count = nth(9), 9
			e.Hash, _, _ = l.Orders[0].sum(nth(1), nth(9))
		}, []string{"C4", "C6 received"}},
		{"a resume with a hole", func(l *Ledger) {
			events(l, 3, append(l.Clients[3].Events[:5:5], l.Clients[3].Events[6:]...)...)
		}, []string{"C5"}},
		{"a good client was cut", func(l *Ledger) { *of(l, 0, 3) = Event{Kind: Closed, Code: 1013} }, []string{"whole"}},
		{"a good client was told of a gap", func(l *Ledger) {
			of(l, 0, 1).Kind = Gap
		}, []string{"whole"}},
		{"a publication too many", func(l *Ledger) { l.Counters[counterPublished]++ }, []string{"C6 published"}},
		{"a delivery too many", func(l *Ledger) { l.Counters[counterDelivered]++ }, []string{"C6 received"}},
		{"a delivery too few", func(l *Ledger) { l.Counters[counterDelivered]-- }, []string{"C6 received"}},
		{"a drop that nobody counted", func(l *Ledger) { l.Counters[counterDropped] = 0; l.Orders[0].Subscribers += 20 }, []string{"C6 dropped"}},
		{"a few more for connections that came and went", func(l *Ledger) { l.Orders[0].Subscribers += 2 }, nil},
		{"a skip that nobody counted", func(l *Ledger) { l.Counters[counterSkipped]-- }, []string{"C6 skipped"}},
		{"more lost in the kernel than was published", func(l *Ledger) {
			*of(l, 3, 3) = Event{Kind: Broken} // after offset 3: seven can have been on their way
			l.Counters[counterDelivered] += 8
			l.Orders[0].Subscribers += 8
		}, []string{"C6 received"}},
	} {
		l := forged()
		tc.forge(l)
		var got []string
		for _, c := range Judge(l) {
			if c.Verdict != trial.Pass {
				got = append(got, c.Name)
			}
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: checks that fail (-want +got):\n%s\n%+v", tc.name, diff, Judge(l))
		}
	}
}

func TestWhatIsDueIsExactWhereNobodyWasCut(t *testing.T) {
	for _, tc := range []struct {
		dropped float64
		want    trial.Verdict
	}{{3, trial.Pass}, {2, trial.Fail}, {4, trial.Fail}} {
		l := forged()
		l.Clients = l.Clients[:3]
		l.Orders[0].Subscribers = 0 // not looked at
		l.Counters[counterDelivered], l.Counters[counterDropped] = 27, tc.dropped
		for _, c := range Judge(l) {
			if c.Name == "C6 dropped" && c.Verdict != tc.want || c.Name != "C6 dropped" && c.Verdict != trial.Pass {
				t.Errorf("%v dropped: got %+v, want %s", tc.dropped, c, tc.want)
			}
		}
	}
}

func TestCountersThatAreNotThereFail(t *testing.T) {
	l := forged()
	delete(l.Counters, counterDropped)
	got := map[string]trial.Verdict{}
	for _, c := range Judge(l) {
		if c.Verdict != trial.Pass {
			got[c.Name] = c.Verdict
		}
	}
	if diff := cmp.Diff(map[string]trial.Verdict{"C6 dropped": trial.Fail, "C6 skipped": trial.Fail}, got); diff != "" {
		t.Error(diff)
	}
}
