package namespace

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

var ops = map[Op]string{Subscribe: "subscribe", Publish: "publish", Presence: "presence", History: "history"}

// letIn lists everyone to whom the options that are on give the right to op, written
// from the sentence in doc.go and from nothing in rights.go.
func letIn(on map[string]bool, op string) (list []Who) {
	for _, kind := range []string{"client", "subscriber"} {
		if !on["allow_"+op+"_for_"+kind] {
			continue
		}
		for _, user := range []string{"42", ""} {
			if user == "" && !on["allow_"+op+"_for_anonymous"] {
				continue
			}
			list = append(list, Who{user, true})
			if kind == "client" {
				list = append(list, Who{user, false})
			}
		}
	}
	return list
}

func TestRightsAreThoseOfTheSecondTable(t *testing.T) {
	var rights []string
	for _, x := range known {
		if strings.HasPrefix(x.name, "allow_") && strings.Contains(x.name, "_for_") {
			rights = append(rights, x.name)
		}
	}
	if len(rights) != 11 { // three for each of the four ops, but subscribe has none for subscribers
		t.Fatalf("rights: %q", rights)
	}
	granted := 0
	for bits := range 1 << len(rights) {
		on := make(map[string]bool)
		var o Options
		for i, name := range rights {
			if bits>>i&1 == 1 {
				on[name] = true
				*optionOf(name).flag(&o) = true
			}
		}
		for op, name := range ops {
			list := letIn(on, name)
			for _, who := range []Who{{"42", false}, {"42", true}, {"", false}, {"", true}} {
				want := slices.Contains(list, who)
				if got := o.Allows(op, who); got != want {
					t.Fatalf("%v: %s by %+v: %v, want %v", on, name, who, got, want)
				}
				if want {
					granted++
				}
			}
		}
	}
	if granted == 0 {
		t.Error("the second table grants nothing")
	}
}

func TestAnOpThatIsNoneIsNotAllowed(t *testing.T) {
	o := allOn()
	if o.Allows(History+1, Who{User: "42", Subscribed: true}) {
		t.Error("allowed")
	}
}

// allOn gives options in which all that is true or false is true.
func allOn() *Options {
	var o Options
	for _, x := range known {
		if x.flag != nil {
			*x.flag(&o) = true
		}
	}
	return &o
}

func TestWhoMaySubscribeWithoutAToken(t *testing.T) {
	for _, c := range []struct {
		on            string // options, without allow_
		channel, user string
		want          bool
	}{
		{"", "news", "42", false},
		{"subscribe_for_client", "news", "42", true},
		{"subscribe_for_client", "chat:news", "42", true},
		{"subscribe_for_client", "news", "", false},
		{"subscribe_for_anonymous", "news", "", false},
		{"subscribe_for_anonymous", "news", "42", false},
		{"subscribe_for_client subscribe_for_anonymous", "news", "", true},
		// Private: by token only.
		{"subscribe_for_client subscribe_for_anonymous", "$news", "42", false},
		{"subscribe_for_client subscribe_for_anonymous", "$chat:news", "", false},
		{"subscribe_for_client user_limited_channels", "$chat:x#42", "42", false},
		// Limited to users, where that is known.
		{"user_limited_channels", "dialog#42,43", "42", true},
		{"user_limited_channels", "dialog#42,43", "43", true},
		{"user_limited_channels", "dialog#42,43", "4", false},
		{"user_limited_channels", "dialog#42,43", "", false},
		{"user_limited_channels", "news", "42", false},
		{"user_limited_channels subscribe_for_client", "news", "42", true},
		{"user_limited_channels subscribe_for_client", "dialog#42", "44", false},
		{"user_limited_channels subscribe_for_client subscribe_for_anonymous", "dialog#42", "", false},
		{"user_limited_channels subscribe_for_client subscribe_for_anonymous", "dialog#", "", false},
		// Where it is not, '#' is a character like others.
		{"", "dialog#42", "42", false},
		{"subscribe_for_client", "dialog#42", "44", true},
	} {
		var o Options
		for name := range strings.FieldsSeq(c.on) {
			*optionOf("allow_" + name).flag(&o) = true
		}
		if got := o.MaySubscribe(c.channel, c.user); got != c.want {
			t.Errorf("with %q, %q by %q: %v, want %v", c.on, c.channel, c.user, got, c.want)
		}
	}
}

func TestUsersAreThoseBehindTheLastBoundary(t *testing.T) {
	for _, c := range []struct {
		channel string
		limited bool
		users   string // allowed, of those below
	}{
		{"dialog", false, ""},
		{"dialog#42", true, "42"},
		{"dialog#42,43", true, "42 43"},
		{"chat:dialog#42,43", true, "42 43"},
		{"dialog#42#43", true, "43"},
		{"dialog#", true, ""},
		{"dialog#,", true, ""},
		{"dialog#,42", true, "42"},
		{"dialog#42,", true, "42"},
		{"dialog# 42", true, ""},
		{"dialog#421", true, ""},
		{"#43", true, "43"},
		{"42#dialog", true, ""},
		{"dialog#42,,a:b", true, "42 a:b"},
	} {
		if got := UserLimited(c.channel); got != c.limited {
			t.Errorf("%q is limited: %v, want %v", c.channel, got, c.limited)
		}
		for _, user := range []string{"", "4", "42", "43", "42,43", "42#43", "#43", "a:b"} {
			want := user != "" && slices.Contains(strings.Fields(c.users), user)
			if got := UserAllowed(c.channel, user); got != want {
				t.Errorf("%q by %q: %v, want %v", c.channel, user, got, want)
			}
		}
	}
}

func TestPrivateChannelsBeginWithADollar(t *testing.T) {
	for channel, want := range map[string]bool{"": false, "a": false, "a$": false, "chat:$a": false, "$": true, "$a": true, "$chat:a": true} {
		if got := Private(channel); got != want {
			t.Errorf("%q: %v, want %v", channel, got, want)
		}
	}
}

func TestWhatASubscriberIsGiven(t *testing.T) {
	type given struct{ recovers, positions, pushes bool }
	all := given{true, true, true}
	for _, c := range []struct {
		on         string
		user       string
		asks, idle given // what it is given if it asks, and if not
	}{
		{"", "42", given{}, given{}},
		{"force_recovery", "", given{recovers: true}, given{recovers: true}},
		{"allow_recovery", "", given{recovers: true}, given{}},
		{"force_positioning", "", given{positions: true}, given{positions: true}},
		{"allow_positioning", "", given{positions: true}, given{}},
		{"allow_history_for_client", "42", given{recovers: true, positions: true}, given{}},
		{"allow_history_for_subscriber", "42", given{recovers: true, positions: true}, given{}},
		{"allow_history_for_subscriber", "", given{}, given{}},
		{"allow_history_for_subscriber allow_history_for_anonymous", "", given{recovers: true, positions: true}, given{}},
		{"join_leave", "42", given{}, given{}},
		{"force_push_join_leave", "42", given{}, given{}},
		{"join_leave force_push_join_leave", "", given{pushes: true}, given{pushes: true}},
		{"allow_presence_for_client", "42", given{}, given{}},
		{"join_leave allow_presence_for_client", "42", given{pushes: true}, given{}},
		{"join_leave allow_presence_for_subscriber", "42", given{pushes: true}, given{}},
		{"join_leave allow_presence_for_subscriber", "", given{}, given{}},
		{"force_recovery force_positioning join_leave force_push_join_leave", "", all, all},
	} {
		var o Options
		for name := range strings.FieldsSeq(c.on) {
			*optionOf(name).flag(&o) = true
		}
		for asks, want := range map[bool]given{true: c.asks, false: c.idle} {
			got := given{o.Recovers(c.user, asks), o.Positions(c.user, asks), o.PushesJoinLeave(c.user, asks)}
			if got != want {
				t.Errorf("with %q, %q that asks (%v): %+v, want %+v", c.on, c.user, asks, got, want)
			}
		}
	}
}

func TestAskingAllocatesNothing(t *testing.T) {
	s, err := Parse(Example())
	if err != nil {
		t.Fatal(err)
	}
	channels := []string{"news", "chat:a", "$chat:a", "personal:x#41,42", "nowhere:a", ":a", ""}
	var n int
	allocs := testing.AllocsPerRun(100, func() {
		for _, channel := range channels {
			o, ok := s.Lookup(channel)
			if !ok {
				continue
			}
			if o.MaySubscribe(channel, "42") || o.Allows(Publish, Who{User: "42", Subscribed: true}) {
				n++
			}
			if o.Recovers("42", true) || o.Positions("42", true) || o.PushesJoinLeave("42", true) {
				n++
			}
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations for %s", allocs, fmt.Sprint(channels))
	}
	if n == 0 {
		t.Error("nothing was allowed")
	}
}

func TestWhichHistoriesAreStored(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want bool
	}{
		{Options{}, false}, {Options{Durable: new(true)}, false},
		{Options{HistorySize: 1}, true}, {Options{HistorySize: 1, Durable: new(true)}, true}, {Options{HistorySize: 1, Durable: new(false)}, false},
	} {
		if got := c.o.Stored(); got != c.want {
			t.Errorf("%+v: %v, want %v", c.o, got, c.want)
		}
	}
}
