package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
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

// digest is one hash for the whole.
func (l ledger) digest() string {
	h := sha256.New()
	for _, e := range l {
		kind := byte(0)
		if e.binary {
			kind = 1
		}
		h.Write(append([]byte{kind}, e.sum[:]...))
	}
	return hex.EncodeToString(h.Sum(nil))
}

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

// record is what a client with format=json gets, gateway/PROTOCOL.md, "Records".
type record struct {
	Gap    *bool   `json:"gap"`
	Conn   string  `json:"conn"`
	Epoch  string  `json:"epoch"`
	Offset int     `json:"offset"`
	From   string  `json:"from"`
	Text   *string `json:"data"`
	Binary []byte  `json:"base64"`
}

func parseRecord(m message) (r record, err error) {
	if m.binary {
		return r, fmt.Errorf("expected a text record, but received a binary message")
	}
	if err := json.Unmarshal([]byte(m.payload), &r); err != nil {
		return r, fmt.Errorf("no record: %w", err)
	}
	return r, nil
}

func (r *record) published() message {
	if r.Text != nil {
		return message{payload: *r.Text}
	}
	return message{true, string(r.Binary)}
}

// check decides whether records are what was published: offsets without a hole or a
// repeat, and of each publisher everything in the order in which it sent it, and
// nothing else. It gives the publications' ledger.
func check(records []record, scripts map[string][]message) (ledger, error) {
	var l ledger
	done := map[string]int{}
	for i, r := range records {
		if r.Epoch != records[0].Epoch || r.Offset != i+1 {
			return nil, fmt.Errorf("publication %d stands at %s:%d, want %s:%d", i+1, r.Epoch, r.Offset, records[0].Epoch, i+1)
		}
		script, n := scripts[r.From], done[r.From]
		if n >= len(script) {
			return nil, fmt.Errorf("publication %d of %q was never sent, or twice", i+1, r.From)
		}
		got, want := entryOf(r.published()), entryOf(script[n])
		if got != want {
			return nil, fmt.Errorf("message %d of %q is %v, want %v", n+1, r.From, got, want)
		}
		done[r.From]++
		l = append(l, got)
	}
	for from, script := range scripts {
		if done[from] != len(script) {
			return nil, fmt.Errorf("%d messages of %q, want %d", done[from], from, len(script))
		}
	}
	return l, nil
}
