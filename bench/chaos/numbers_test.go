package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// textOf is a publication of the author "x".
func textOf(number int) []byte { return fmt.Appendf(nil, "%016x.x.%d.rest", number, number) }

// writtenOf returns what the author has published: numbers from 1, of which some have no receipt.
func writtenOf(all int, without ...int) *written {
	var hashes []uint64
	var acked []bool
	for i := range all {
		hashes, acked = append(hashes, hashOf(textOf(i+1))), append(acked, true)
	}
	for _, number := range without {
		acked[number-1] = false
	}
	return newWritten("x", hashes, acked)
}

// faultsOf collects faults.
func faultsOf(f func(fault func(check, format string, args ...any))) string {
	var all []string
	f(func(check, format string, args ...any) { all = append(all, check+": "+fmt.Sprintf(format, args...)) })
	return strings.Join(all, "\n")
}

func TestJudgeOfNumbers(t *testing.T) {
	for _, test := range []struct {
		name    string
		without []int // of five
		got     []any // numbers, "gap", "again" for another connection with the same position
		want    string
	}{
		{"everything", nil, []any{1, 2, 3, 4, 5}, ""},
		{"from the middle on", nil, []any{3, 4, 5}, ""},
		{"one is missing", nil, []any{1, 2, 4, 5}, "C4: c: number 4 of x follows number 2, 1 between have a receipt"},
		{"one without a receipt is missing", []int{3}, []any{1, 2, 4, 5}, ""},
		{"one is missing at a gap", nil, []any{1, 2, "gap", 4, 5}, ""},
		{"one is missing beside a gap", nil, []any{1, "gap", 2, 4, 5}, "C4: c: number 4 of x follows number 2"},
		{"one is missing where it came back", nil, []any{1, 2, "again", 4, 5}, "C4: c: number 4 of x follows number 2"},
		{"twice", nil, []any{1, 2, 2, 3, 4, 5}, "C3: c: got numbers 2 to 5 of x again"},
		{"twice, after a gap", nil, []any{1, 2, 3, "gap", 2, 3, 4, 5}, "C3: c: got numbers 2 to 5 of x again"},
		{"two are swapped", nil, []any{1, 3, 2, 4, 5}, "C4: c: number 3 of x follows number 1"},
		{"late", nil, []any{1, "gap", 3, "gap", 2, "gap", 4, 5}, "C2: c: got number 2 of x after number 3"},
		{"late without a receipt", []int{2}, []any{1, 3, 2, 4, 5}, ""},
		{"the last one is missing", nil, []any{1, 2, 3, 4}, "C4: c: stayed to the end, but received nothing of x after number 4 of 5"},
		{"never published", nil, []any{1, 2, 3, 4, 5, 6}, "C1: c: got numbers 1 to 6 of x, who has published 5"},
		{"nothing", nil, nil, "C4: c: stayed to the end, but received nothing of x after number 0 of 5"},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := &Numbers{Name: "c", Runs: map[string][]Span{}, Stayed: true}
			n.stands("e", 10)
			for _, one := range test.got {
				switch one {
				case "gap":
					n.begin("e", n.offset+1)
				case "again":
					n.stands("e", n.offset)
				default:
					n.got("e", n.offset+1, n.offset, textOf(one.(int)))
				}
			}
			got := faultsOf(func(fault func(check, format string, args ...any)) {
				judgeNumbers([]*written{writtenOf(5, test.without...)}, []*Numbers{n}, fault)
			})
			if (test.want == "") != (got == "") || !strings.Contains(got, test.want) {
				t.Errorf("got\n%s\nwant %q", got, test.want)
			}
		})
	}
}

func TestNumbersNoteWhatTheirRecordsOmit(t *testing.T) {
	n := &Numbers{Name: "c", Runs: map[string][]Span{}}
	n.stands("e", 10)
	n.got("e", 12, 11, textOf(1)) // names one as the one before that has not come
	n.got("f", 13, 12, textOf(2))
	n.stands("f", 15)
	if len(n.Faults) != 3 {
		t.Errorf("noted are %q", n.Faults)
	}
	n = &Numbers{Name: "c", Runs: map[string][]Span{"y": {{1, 1, 1, 1}}}}
	if got := faultsOf(func(fault func(check, format string, args ...any)) {
		judgeNumbers([]*written{writtenOf(1)}, []*Numbers{n}, fault)
	}); !strings.Contains(got, "C1: c: got publications of y, who has published none") {
		t.Error(got)
	}
	n = &Numbers{Name: "c", Runs: map[string][]Span{"x": {{1, 1, 1, 1}}}}
	if got := faultsOf(func(fault func(check, format string, args ...any)) {
		judgeNumbers([]*written{writtenOf(1)}, []*Numbers{n}, fault)
	}); !strings.Contains(got, "C1: c: the payloads of numbers 1 to 1 of x differ") {
		t.Error(got)
	}
}

func TestMergedOrders(t *testing.T) {
	type saw struct {
		offset uint64
		number int
	}
	for _, test := range []struct {
		name   string
		saw    []saw
		want   string
		unseen uint64
	}{
		{"what the receipts say", []saw{{10, 1}, {20, 2}}, "", 0},
		{"one without a receipt, too", []saw{{10, 1}, {20, 2}, {25, 3}}, "", 0},
		{"nobody has seen one", []saw{{10, 1}}, "", 1},
		{"another one than the receipt says", []saw{{10, 1}, {20, 3}}, "C1: offset 20 of c is not what its receipt says", 0},
		{"one that nobody has published", []saw{{10, 1}, {20, 2}, {25, 7}}, "C1: offset 25 of c was published by nobody", 0},
		{"one twice", []saw{{10, 1}, {20, 2}, {25, 2}}, "C3: offset 25 of c was there before: number 2 of x", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := &witness{orders: make(map[string]*witnessed)}
			for _, s := range test.saw {
				w.saw("e", s.offset, hashOf(textOf(s.number)))
			}
			a := &author{channel: "c", name: "x", began: time.Now(), acked: []bool{true, true, false},
				receipts: []authorReceipt{{number: 0, epoch: "e", offset: 10}, {number: 1, epoch: "e", offset: 20}}}
			for i := range 3 {
				a.hashes = append(a.hashes, hashOf(textOf(i+1)))
			}
			var orders []*Order
			var unseen uint64
			got := faultsOf(func(fault func(check, format string, args ...any)) {
				orders, unseen = w.merged("c", []*author{a}, fault)
			})
			if (test.want == "") != (got == "") || !strings.Contains(got, test.want) || unseen != test.unseen || len(orders) != 1 {
				t.Errorf("%d unseen, %d orders, got\n%s\nwant %q", unseen, len(orders), got, test.want)
			}
		})
	}
}

// Numbers of one author must grow with the offsets, if they have receipts.
func TestMergedOrdersOfOneAuthor(t *testing.T) {
	w := &witness{orders: make(map[string]*witnessed)}
	a := &author{channel: "c", name: "x", began: time.Now(), hashes: []uint64{1, 2}, acked: []bool{true, true},
		receipts: []authorReceipt{{number: 0, epoch: "e", offset: 20}, {number: 1, epoch: "e", offset: 10}}}
	got := faultsOf(func(fault func(check, format string, args ...any)) { w.merged("c", []*author{a}, fault) })
	if !strings.Contains(got, "C2: offset 20 of c is number 1 of x, which comes after number 2") {
		t.Error(got)
	}
	if !w.saw("e", 10, 2) || w.saw("e", 10, 3) {
		t.Error("two clients that have seen something else are not told apart")
	}
}
