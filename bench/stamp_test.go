package bench

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestStampIsReadAsItWasWritten(t *testing.T) {
	m := newMark().inPhase(7)
	for _, want := range []stamp{
		{},
		{stream: 1<<16 - 1, seq: 1<<32 - 1, scheduled: 1<<48 - 1},
		{stream: 0x5a3c, seq: 0x01234567, scheduled: 0x89abcdef0123},
		{stream: 1, seq: 2, scheduled: 3},
	} {
		p := make([]byte, SizeMin)
		want.put(p, m)
		if !utf8.Valid(p) || strings.ContainsAny(string(p), "\"\\\x7f") {
			t.Errorf("%+v: %q is not plain in JSON", want, p)
		}
		got, ok := readStamp(p, m)
		if !ok || got != want {
			t.Errorf("%q is read as %+v, %v; written was %+v", p, got, ok, want)
		}
		if _, ok := readStamp(p, m.inPhase(8)); ok {
			t.Errorf("%q is taken for another phase's", p)
		}
		if at := findStamp([]byte(`{"data":"`+string(p)+`"}`), m.inPhase(8)); at != 9 {
			t.Errorf("found at %d in an envelope, want 9", at)
		}
	}
}

func TestStampCutShortIsNotFound(t *testing.T) {
	m := newMark()
	p := make([]byte, SizeMin)
	stamp{seq: 1}.put(p, m)
	if at := findStamp(p[:SizeMin-1], m); at != -1 {
		t.Errorf("found at %d", at)
	}
}
