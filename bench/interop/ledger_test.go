package main

import (
	"strings"
	"testing"
)

func TestCheckFindsWhatIsNotAsPublished(t *testing.T) {
	text := func(epoch string, offset int, from, payload string) record {
		return record{Epoch: epoch, Offset: offset, From: from, Text: &payload}
	}
	scripts := map[string][]message{"7": {{payload: "a"}, {payload: "b"}}, "api": {{true, "c"}}}
	good := []record{text("e", 1, "7", "a"), {Epoch: "e", Offset: 2, From: "api", Binary: []byte("c")}, text("e", 3, "7", "b")}
	for _, test := range []struct {
		name string
		bend func(r []record) []record
		want string // in the error; "" for none
	}{
		{"good", func(r []record) []record { return r }, ""},
		{"last one missing", func(r []record) []record { return r[:2] }, `1 messages of "7", want 2`},
		{"hole", func(r []record) []record { return append(r[:1], r[2]) }, "stands at e:3, want e:2"},
		{"repeat", func(r []record) []record { return append(r, r[2]) }, "stands at e:3, want e:4"},
		{"sent once, came twice", func(r []record) []record { return append(r, text("e", 4, "7", "b")) }, "never sent, or twice"},
		{"invented", func(r []record) []record { return append(r, text("e", 4, "8", "a")) }, "never sent"},
		{"changed", func(r []record) []record { r[0] = text("e", 1, "7", "A"); return r }, `message 1 of "7"`},
		{"swapped", func(r []record) []record { r[0], r[2] = text("e", 1, "7", "b"), text("e", 3, "7", "a"); return r }, `message 1 of "7"`},
		{"another kind", func(r []record) []record { r[1] = text("e", 2, "api", "c"); return r }, `message 1 of "api" is text`},
		{"another epoch", func(r []record) []record { r[2].Epoch = "f"; return r }, "stands at f:3"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := check(test.bend(append([]record(nil), good...)), scripts)
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
		if alike := test.got.digest() == test.want.digest(); alike != (err == nil) {
			t.Errorf("digests of %v and %v alike: %v", test.got, test.want, alike)
		}
	}
}
