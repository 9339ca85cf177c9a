package namespace

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// lookedUp gives what a set knows of each channel: "-" for nothing, else the name
// in brackets.
func lookedUp(s *Set, channels ...string) (list []string) {
	for _, channel := range channels {
		o, ok := s.Lookup(channel)
		if !ok {
			list = append(list, channel+" -")
			continue
		}
		list = append(list, fmt.Sprintf("%s [%s]", channel, o.Name))
	}
	return list
}

func TestChannelsAreOfTheNamespaceBeforeTheFirstColon(t *testing.T) {
	s, err := Parse([]byte(`{"namespaces": [{"name": "chat"}, {"name": "a.b-c_1"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	got := lookedUp(s, "", "news", "chat", "chat:", "chat:a", "chat:a:b", "chat:chat", "$chat:a", "$chat", "$", "$$chat:a",
		":chat", "$:chat", "::", "Chat:a", "cha:a", "chatt:a", "a.b-c_1:x", "nowhere:chat:a", "c#1:x", "x#a:b")
	want := []string{" []", "news []", "chat []", "chat: [chat]", "chat:a [chat]", "chat:a:b [chat]", "chat:chat [chat]",
		"$chat:a [chat]", "$chat []", "$ []", "$$chat:a -", ":chat []", "$:chat []", ":: []", "Chat:a -", "cha:a -", "chatt:a -",
		"a.b-c_1:x [a.b-c_1]", "nowhere:chat:a -", "c#1:x -", "x#a:b -"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestSetsWithoutAFile(t *testing.T) {
	o := Options{Name: "ignored", Presence: true}
	for name, c := range map[string]struct {
		set  *Set
		want []string
	}{
		"default":    {Default(o), []string{"news []", "chat:a -", "$chat:a -"}},
		"everywhere": {Everywhere(o), []string{"news []", "chat:a []", "$chat:a []"}},
	} {
		if diff := cmp.Diff(c.want, lookedUp(c.set, "news", "chat:a", "$chat:a")); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if got, _ := c.set.Lookup("news"); !got.Presence {
			t.Errorf("%s: the options are not those given", name)
		}
	}
	if o.Name != "ignored" {
		t.Error("the caller's options were changed")
	}
}

func TestAllGivesEachOptionsOnce(t *testing.T) {
	s, err := Parse([]byte(`{"namespaces": [{"name": "zz"}, {"name": "aa"}, {"name": "mm"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for o := range s.All() {
		got = append(got, o.Name)
	}
	if diff := cmp.Diff([]string{"", "zz", "aa", "mm"}, got); diff != "" {
		t.Error(diff)
	}
	for range s.All() {
		break // must not go on
	}
}

func TestTheExampleIsAccepted(t *testing.T) {
	s, err := Parse(Example())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"news []", "chat:a [chat]", "scores:a [scores]", "personal:u#42 [personal]", "telemetry:a [telemetry]"},
		lookedUp(s, "news", "chat:a", "scores:a", "personal:u#42", "telemetry:a")); diff != "" {
		t.Error(diff)
	}
	Example()[0] = 'x'
	if _, err := Parse(Example()); err != nil {
		t.Error("the example can be changed:", err)
	}
}
