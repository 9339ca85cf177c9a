package hook

import (
	"context"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHeadersThatHooksWant(t *testing.T) {
	header := map[string]string{"COOKIE": "a=1"}
	var none *Set
	for name, c := range map[string]struct {
		set            *Set
		want           Header
		wants, invents bool // Cookie
	}{
		"no hooks":              {none, nil, false, false},
		"nothing":               {&Set{}, nil, false, false},
		"some":                  {&Set{HeaderNames: []string{"X", "Cookie"}, EmulatedNames: []string{"X"}}, Header{{"COOKIE", "a=1"}}, true, false},
		"others":                {&Set{HeaderNames: []string{"X"}, EmulatedNames: []string{"cookie"}}, nil, false, true},
		"those of a Go program": {NewSet(Hooks{}), Header{{"COOKIE", "a=1"}}, true, true},
	} {
		if diff := cmp.Diff(c.want, c.set.Collect(maps.All(header))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if c.set.Wants("Cookie") != c.wants || c.set.WantsEmulated("Cookie") != c.invents {
			t.Errorf("%s: wants Cookie: %t, emulated: %t", name, c.set.Wants("Cookie"), c.set.WantsEmulated("Cookie"))
		}
	}
}

func TestHooksOfChannelsHaveNames(t *testing.T) {
	h := Func(func(context.Context, *PublishRequest) (*PublishResult, error) { return nil, nil }, Options{})
	defer h.Close()
	s := NewSet(Hooks{Publish: h})
	if Pick(s.Publish, "") != Hook[*PublishRequest, PublishResult](h) || Pick(s.Publish, Default) == nil || Pick(s.Publish, "chat") != nil || Pick(s.Subscribe, "") != nil {
		t.Error("not the hook with the name")
	}
}
