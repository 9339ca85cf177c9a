package access

import (
	"strings"
	"testing"
	"time"

	"sluice/gateway/access/auth"
	"sluice/gateway/access/namespace"
	"sluice/gateway/clienttest"
)

// The namespaces of these tests: open to users, readable, silent, and private.
const namespaces = `{"namespaces": [
	{"name": "chat", "allow_subscribe_for_client": true, "allow_publish_for_subscriber": true, "allow_raw_publish": true,
		"history_size": 10, "history_ttl": "60s", "presence": true, "join_leave": true, "allow_presence_for_client": true},
	{"name": "news", "allow_subscribe_for_client": true, "allow_publish_for_client": true,
		"history_size": 10, "history_ttl": "60s", "allow_recovery": true},
	{"name": "dark"}]}`

func policy(t *testing.T, insecure, keys, named bool) *Policy {
	t.Helper()
	cfg := Config{Insecure: insecure, History: 5, HistoryTTL: time.Minute}
	if keys {
		cfg.Tokens = clienttest.Verifier(t.Context(), t, auth.Options{HMACSecrets: [][]byte{[]byte(strings.Repeat("k", 32))}})
	}
	if named {
		var err error
		if cfg.Namespaces, err = namespace.Parse([]byte(namespaces)); err != nil {
			t.Fatal(err)
		}
	}
	return New(cfg)
}

func TestOpenWithoutKeysAndNamespaces(t *testing.T) {
	for _, tt := range []struct {
		insecure, keys, named bool
		open                  bool
		reads                 bool  // a token
		fault                 error // of reading it
		unknown               bool  // a channel of a namespace that is not configured
	}{
		{open: true, fault: ErrNoKey},
		{keys: true, reads: true},
		{named: true, fault: ErrNoKey, unknown: true},
		{keys: true, named: true, reads: true, unknown: true},
		{insecure: true, open: true},
		{insecure: true, keys: true, open: true},
		{insecure: true, named: true, open: true, unknown: true},
		{insecure: true, keys: true, named: true, open: true, unknown: true},
	} {
		p := policy(t, tt.insecure, tt.keys, tt.named)
		reads, fault := p.Reads("token")
		if p.Open() != tt.open || p.Insecure() != tt.insecure || (p.Tokens() != nil) != tt.keys || reads != tt.reads || fault != tt.fault {
			t.Errorf("%+v: open %t, insecure %t, verifies %t, reads %t, %v", tt, p.Open(), p.Insecure(), p.Tokens() != nil, reads, fault)
		}
		if reads, fault := p.Reads(""); reads || fault != nil {
			t.Errorf("%+v: no token: %t, %v", tt, reads, fault)
		}
		_, err := p.Rights("other:x", "", true)
		if may := p.May(namespace.Publish, "other:x", namespace.Who{}); (p.Options("other:x") == nil) != tt.unknown ||
			(err == ErrUnknownChannel) != tt.unknown || (may == ErrUnknownChannel) != tt.unknown {
			t.Errorf("%+v: unknown channel: %v, %v", tt, err, may)
		}
	}
}

func TestChannelsWithoutNamespaces(t *testing.T) {
	for _, keys := range []bool{false, true} {
		p := policy(t, false, keys, false)
		o := p.Options("any:thing")
		if o.HistorySize != 5 || o.HistoryTTL != time.Minute || !o.ForceRecovery || o.Presence == keys || o.JoinLeave == keys {
			t.Errorf("keys %t: %+v", keys, o)
		}
		if p.MaySubscribe(o, "x", "42") == keys || p.PushesJoinLeave(o, "42", true) == keys || p.PushesJoinLeave(o, "42", false) {
			t.Errorf("keys %t: a client without a token for the channel", keys)
		}
	}
}

func TestWhatAClientMayDo(t *testing.T) {
	p := policy(t, false, true, true)
	for _, tt := range []struct {
		op         namespace.Op
		channel    string
		user       string
		subscribed bool
		want       error
	}{
		{namespace.Publish, "chat:1", "42", true, nil},
		{namespace.Publish, "chat:1", "42", false, ErrDenied},
		{namespace.Publish, "chat:1", "", true, ErrDenied},
		{namespace.Publish, "nowhere:1", "42", true, ErrUnknownChannel},
		{namespace.Presence, "chat:1", "42", false, nil},
		{namespace.Presence, "news:1", "42", true, ErrUnavailable},
		{namespace.History, "news:1", "42", true, ErrDenied},
		{namespace.History, "dark:1", "42", true, ErrUnavailable},
	} {
		if got := p.May(tt.op, tt.channel, namespace.Who{User: tt.user, Subscribed: tt.subscribed}); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
		open := policy(t, true, true, true).May(tt.op, tt.channel, namespace.Who{User: tt.user, Subscribed: tt.subscribed})
		if want := tt.want; want == ErrDenied && open != nil || want != ErrDenied && open != want {
			t.Errorf("%+v, insecure: %v", tt, open)
		}
	}
}

func TestRightsInOneChannel(t *testing.T) {
	p := policy(t, false, true, true)
	for _, tt := range []struct {
		channel, user string
		granted       bool
		want          Rights
		err           error
	}{
		{"chat:1", "42", false, Rights{Publish: true}, nil},
		{"chat:1", "", false, Rights{}, ErrDenied},
		{"chat:1", "", true, Rights{}, nil},
		{"news:1", "42", false, Rights{Recover: true}, nil}, // may publish, but not raw
		{"dark:1", "42", false, Rights{}, ErrDenied},
		{"dark:1", "42", true, Rights{Recover: true}, nil},
		{"$chat:1", "42", false, Rights{}, ErrDenied},
		{"nowhere:1", "42", true, Rights{}, ErrUnknownChannel},
	} {
		if got, err := p.Rights(tt.channel, tt.user, tt.granted); got != tt.want || err != tt.err {
			t.Errorf("%+v: %+v, %v", tt, got, err)
		}
	}
	for _, insecure := range []bool{false, true} {
		all := policy(t, insecure, insecure, insecure)
		if got, err := all.Rights("dark:1", "", false); got != (Rights{Publish: true, Recover: true}) || err != nil {
			t.Errorf("an open node: %+v, %v", got, err)
		}
	}
}

func TestTokensForChannels(t *testing.T) {
	c := &auth.Connection{Channels: []string{"a"}, Subs: map[string]auth.SubOptions{"b": {}}}
	for channel, want := range map[string]bool{"a": true, "b": true, "c": false, "": false} {
		if got := Grants(c, channel); got != want {
			t.Errorf("a token that names a and b grants %q: %t", channel, got)
		}
	}
	for _, tt := range []struct {
		sub  auth.Subscription
		want string
	}{
		{auth.Subscription{Channel: "x", User: "42"}, ""},
		{auth.Subscription{Channel: "x", User: "42", Client: "me"}, ""},
		{auth.Subscription{Channel: "y", User: "42"}, "another channel"},
		{auth.Subscription{Channel: "x", User: "43"}, "another user"},
		{auth.Subscription{Channel: "x"}, "another user"},
		{auth.Subscription{Channel: "x", User: "42", Client: "you"}, "another client"},
	} {
		if got := Misfit(&tt.sub, "x", "42", "me"); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%+v: %q", tt.sub, got)
		}
	}
}
