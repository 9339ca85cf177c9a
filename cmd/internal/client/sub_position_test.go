package client

import "testing"

func TestPositions(t *testing.T) {
	for text, want := range map[string]position{"e1:0": {"e1", 0}, "a:b:18446744073709551615": {"a:b", 1<<64 - 1}} {
		if got, err := parsePosition(text); err != nil || got != want || got.String() != text {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "e1", ":1", "e1:", "e1:-1", "e1:x", "e1:18446744073709551616"} {
		if got, err := parsePosition(text); err == nil || got != (position{}) {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}
