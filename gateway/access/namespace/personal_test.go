package namespace

import (
	"strings"
	"testing"
)

func TestPersonalChannels(t *testing.T) {
	const namespaces = `"namespaces":[{"name":"me","presence":true},{"name":"bare"}]`
	for _, c := range []struct {
		personal, user, want string
		single               bool
	}{
		{`{"enabled":true}`, "42", "#42", false},
		{`{"enabled":true,"personal_channel_namespace":"me"}`, "42", "me:#42", false},
		{`{"enabled":true,"personal_channel_namespace":"me","single_connection":true}`, "a:b", "me:#a:b", true},
		{`{"enabled":true}`, "", "", false},
		{`{"enabled":false}`, "42", "", false},
	} {
		for _, file := range []string{
			`{"client":{"subscribe_to_user_personal_channel":` + c.personal + `},"channel":{` + namespaces + `}}`,
			`{` + namespaces + `,"client":{"subscribe_to_user_personal_channel":` + c.personal + `}}`,
		} {
			s, err := Parse([]byte(file))
			if err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			if got, single := s.Personal(c.user); got != c.want || single != c.single {
				t.Errorf("%s: %q is in %q, alone: %t", c.personal, c.user, got, single)
			}
		}
	}
	var none *Set
	if got, _ := none.Personal("42"); got != "" {
		t.Errorf("without a set: %q", got)
	}
	s, err := Default(Options{Presence: true}).WithPersonal(Personal{SingleConnection: true})
	if got, single := s.Personal("42"); err != nil || got != "#42" || !single {
		t.Errorf("%q, %v", got, err)
	}
	for want, p := range map[string]Personal{`there is no namespace "me"`: {Namespace: "me"}, "needs presence": {SingleConnection: true}} {
		if s, err := Default(Options{}).WithPersonal(p); s != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestChannelRegex(t *testing.T) {
	s, err := Parse([]byte(`{"without_namespace":{"channel_regex":"^[a-z]+$"},"namespaces":[{"name":"chat","channel_regex":"^[0-9]+$"},{"name":"part","channel_regex":"x"},{"name":"any","channel_regex":""}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"news": true, "News": false, "$news": false, "chat:1": true, "$chat:1": true, "chat:a": false, "chat:": false, "chat:1:2": false, "chat:1#2": false,
		"part:axb": true, "part:ab": false, "any:é": true, "chat": true, ":x": false,
	} {
		o, ok := s.Lookup(name)
		if !ok || o.Fits(name) != want {
			t.Errorf("%s: %t", name, !want)
		}
	}
}
