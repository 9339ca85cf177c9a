package interop

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"sluice/bench/record"
)

// entry is a message in a ledger: its kind and its hash.
type entry struct {
	binary bool
	sum    [sha256.Size]byte
}

func entryOf(m message) entry { return entry{m.binary, sha256.Sum256([]byte(m.payload))} }

func (e entry) String() string {
	if e.binary {
		return "binary " + hex.EncodeToString(e.sum[:4])
	}
	return "text " + hex.EncodeToString(e.sum[:4])
}

// ledger is what a connection received, in order.
type ledger []entry

// same says where two ledgers part.
func same(got, want ledger) error {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Errorf("message %d of %d is %v, want %v", i+1, len(want), got[i], want[i])
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d messages, want %d", len(got), len(want))
	}
	return nil
}

func readRecord(m message) (r record.Record, err error) {
	if m.binary {
		return r, errors.New("expected a text record, but received a binary message")
	}
	return new(record.Reader).Read([]byte(m.payload))
}

// check decides whether records are what was published: each names the one before it and has a
// higher offset, and of each publisher everything in the order in which it sent it, and
// nothing else. It gives the publications' ledger.
func check(records []record.Record, scripts map[string][]message) (ledger, error) {
	var l ledger
	done := map[string]int{}
	last := uint64(0)
	for i, r := range records {
		if r.Epoch != records[0].Epoch || r.Prev != last || r.Offset <= last {
			return nil, fmt.Errorf("publication %d stands at %s:%d behind %d, want it in %s behind %d", i+1, r.Epoch, r.Offset, r.Prev, records[0].Epoch, last)
		}
		last = r.Offset
		script, n := scripts[string(r.From)], done[string(r.From)]
		if n >= len(script) {
			return nil, fmt.Errorf("publication %d of %q was never sent, or twice", i+1, r.From)
		}
		got, want := entryOf(message{r.Binary, string(r.Payload)}), entryOf(script[n])
		if got != want {
			return nil, fmt.Errorf("message %d of %q is %v, want %v", n+1, r.From, got, want)
		}
		done[string(r.From)]++
		l = append(l, got)
	}
	for from, script := range scripts {
		if done[from] != len(script) {
			return nil, fmt.Errorf("%d messages of %q, want %d", done[from], from, len(script))
		}
	}
	return l, nil
}

func TestCheckFindsWhatIsNotAsPublished(t *testing.T) {
	text := func(epoch string, offset uint64, from, payload string) record.Record {
		return record.Record{Epoch: epoch, Offset: offset, Prev: map[uint64]uint64{2: 1, 3: 2, 4: 3}[offset], From: []byte(from), Payload: []byte(payload)}
	}
	scripts := map[string][]message{"7": {{payload: "a"}, {payload: "b"}}, "api": {{true, "c"}}}
	good := []record.Record{text("e", 1, "7", "a"), {Epoch: "e", Offset: 2, Prev: 1, From: []byte("api"), Payload: []byte("c"), Binary: true}, text("e", 3, "7", "b")}
	for _, test := range []struct {
		name string
		bend func(r []record.Record) []record.Record
		want string // in the error; "" for none
	}{
		{"good", func(r []record.Record) []record.Record { return r }, ""},
		{"last one missing", func(r []record.Record) []record.Record { return r[:2] }, `1 messages of "7", want 2`},
		{"hole", func(r []record.Record) []record.Record { return append(r[:1], r[2]) }, "stands at e:3 behind 2, want it in e behind 1"},
		{"repeat", func(r []record.Record) []record.Record { return append(r, r[2]) }, "stands at e:3 behind 2, want it in e behind 3"},
		{"sent once, came twice", func(r []record.Record) []record.Record { return append(r, text("e", 4, "7", "b")) }, "never sent, or twice"},
		{"invented", func(r []record.Record) []record.Record { return append(r, text("e", 4, "8", "a")) }, "never sent"},
		{"changed", func(r []record.Record) []record.Record { r[0] = text("e", 1, "7", "A"); return r }, `message 1 of "7"`},
		{"swapped", func(r []record.Record) []record.Record {
			r[0], r[2] = text("e", 1, "7", "b"), text("e", 3, "7", "a")
			return r
		}, `message 1 of "7"`},
		{"another kind", func(r []record.Record) []record.Record { r[1] = text("e", 2, "api", "c"); return r }, `message 1 of "api" is text`},
		{"another epoch", func(r []record.Record) []record.Record { r[2].Epoch = "f"; return r }, "stands at f:3 behind 2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := check(test.bend(append([]record.Record(nil), good...)), scripts)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("check = %v, want %q", err, test.want)
			}
		})
	}
}

func TestSameSaysWhereLedgersPart(t *testing.T) {
	a, b := entryOf(message{payload: "a"}), entryOf(message{true, "a"})
	for _, test := range []struct {
		got, want ledger
		text      string
	}{
		{ledger{a, b}, ledger{a, b}, ""},
		{ledger{a, a}, ledger{a, b}, "message 2 of 2 is text"},
		{ledger{a}, ledger{a, b}, "1 messages, want 2"},
		{ledger{a, b, b}, ledger{a, b}, "3 messages, want 2"},
	} {
		err := same(test.got, test.want)
		if test.text == "" && err != nil || test.text != "" && (err == nil || !strings.Contains(err.Error(), test.text)) {
			t.Errorf("same(%v, %v) = %v, want %q", test.got, test.want, err, test.text)
		}
	}
}
