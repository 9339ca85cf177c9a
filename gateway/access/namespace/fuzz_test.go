package namespace

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// written gives a file with what is in a set, as someone would write it.
func written(t *testing.T, s *Set) []byte {
	type object = map[string]any
	file, list := object{}, []object{}
	for o := range s.All() {
		x := object{"history_size": o.HistorySize, "history_ttl": o.HistoryTTL.String(), "force_recovery_mode": o.ForceRecoveryMode.String()}
		for _, k := range known {
			if k.flag != nil {
				x[k.name] = *k.flag(o)
			}
		}
		x["subscribe_proxy_name"], x["publish_proxy_name"], x["sub_refresh_proxy_name"] = o.SubscribeProxyName, o.PublishProxyName, o.SubRefreshProxyName
		if o.ChannelRegex != nil {
			x["channel_regex"] = o.ChannelRegex.String()
		}
		if o.Durable != nil {
			x["durable"] = *o.Durable
		}
		if o.Name == "" {
			file["without_namespace"] = x
			continue
		}
		x["name"] = o.Name
		list = append(list, x)
	}
	file["namespaces"] = list
	if p := s.personal; p != nil {
		file["client"] = object{"subscribe_to_user_personal_channel": object{"enabled": true, "personal_channel_namespace": p.Namespace, "single_connection": p.SingleConnection}}
	}
	data, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// What is accepted is JSON with sound options, and is the same when it is written and
// read again. What is not is refused with words and without a set.
func FuzzParse(f *testing.F) {
	f.Add([]byte(everything))
	f.Add(Example())
	for _, c := range faultCases {
		f.Add([]byte(c.file))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse(data)
		if err != nil {
			if s != nil || err.Error() == "" {
				t.Fatalf("%v, %q", s, err)
			}
			return
		}
		if !json.Valid(data) {
			t.Fatal("accepted what is not JSON")
		}
		var all []*Options
		for o := range s.All() {
			all = append(all, o)
			if err := o.Validate(); err != nil {
				t.Error(err)
			}
			channel := "a"
			if o.Name != "" {
				channel = o.Name + ":a"
			}
			if got, ok := s.Lookup(channel); !ok || got != o {
				t.Errorf("a lookup of %q gives %v, %v", channel, got, ok)
			}
		}
		again, err := Parse(written(t, s))
		if err != nil {
			t.Fatal(err)
		}
		var second []*Options
		for o := range again.All() {
			second = append(second, o)
		}
		text := cmp.Transformer("text", func(r regexp.Regexp) string { return r.String() })
		if diff := cmp.Diff(all, second, text); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(s.personal, again.personal); diff != "" {
			t.Error(diff)
		}
	})
}

// slowNamespace takes a channel's name apart: what is before the first ':' once one
// '$' is gone.
func slowNamespace(channel string) string {
	if len(channel) > 0 && channel[0] == '$' {
		channel = channel[1:]
	}
	if parts := strings.Split(channel, ":"); len(parts) > 1 {
		return parts[0]
	}
	return ""
}

func FuzzLookup(f *testing.F) {
	for _, channel := range []string{"", "news", "chat:a", "$chat:a", "$", ":", "$:a", "$$chat:a", "personal:x#42", "x#:42", "a#b#c,,d", "chat:\n"} {
		f.Add(channel, "42")
	}
	s, err := Parse(Example())
	if err != nil {
		f.Fatal(err)
	}
	names := map[string]bool{"": true}
	for o := range s.All() {
		names[o.Name] = true
	}
	f.Fuzz(func(t *testing.T, channel, user string) {
		want := slowNamespace(channel)
		o, ok := s.Lookup(channel)
		if ok != names[want] || ok && o.Name != want {
			t.Fatalf("%q: %v, %v, want %q", channel, o, ok, want)
		}
		if !ok {
			return
		}
		may := o.MaySubscribe(channel, user)
		if may && strings.HasPrefix(channel, "$") {
			t.Errorf("%q is private, and %q may subscribe", channel, user)
		}
		if o.AllowUserLimitedChannels && strings.Contains(channel, "#") && !strings.HasPrefix(channel, "$") {
			parts := strings.Split(channel, "#")
			named := false
			for _, one := range strings.Split(parts[len(parts)-1], ",") {
				named = named || one == user && user != ""
			}
			if may != named {
				t.Errorf("%q by %q: %v, want %v", channel, user, may, named)
			}
		}
	})
}
