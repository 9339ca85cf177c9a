package gateway

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/gobwas/ws"

	"sluice/gateway/access/auth"
	"sluice/gateway/clienttest"
)

// reloadNames are the channels of TestReloadsDecideAsNewServersDo: two of each namespace that may be there, and of none.
var reloadNames = []string{"aa:1", "aa:x#1,2", "bb:1", "bb:x#2", "cc:1", "cc:x", "1", "x"}

// randomNamespaces is a file with random rights.
func randomNamespaces(random *rand.Rand) string {
	options := func(name string) map[string]any {
		o := map[string]any{}
		if name != "" {
			o["name"] = name
		}
		chance := func(percent int) bool { return random.IntN(100) < percent }
		if chance(60) {
			o["allow_subscribe_for_client"] = true
			o["allow_subscribe_for_anonymous"] = chance(60)
		}
		o["allow_user_limited_channels"] = chance(40)
		if chance(25) {
			o["channel_regex"] = []string{"^x", "^1", "1$"}[random.IntN(3)]
		}
		if o["presence"] = chance(40); chance(30) {
			o["join_leave"], o["history_size"], o["history_ttl"] = true, 1+random.IntN(5), "60s"
		}
		return o
	}
	named := []any{}
	for _, name := range []string{"aa", "bb", "cc"} {
		if random.IntN(100) < 75 {
			named = append(named, options(name))
		}
	}
	file, _ := json.Marshal(map[string]any{"without_namespace": options(""), "namespaces": named}) // cannot fail
	return string(file)
}

// follower is a client of the protocol that asks for all channels again and again.
type follower struct {
	*clienttest.Client
	granted map[string]string // tokens of channels
	has     map[string]bool
}

// asks asks for a channel, and returns the error code, 0 for none, and the channels that have ended meanwhile.
func (f *follower) asks(name, token string) (code int, ended []string) {
	f.T.Helper()
	f.Does(fmt.Sprintf(`{"id":2,"subscribe":{"channel":%q,"token":%q}}`, name, token))
	for {
		switch r := f.Reads("a reply for " + name); {
		case r.Push != nil && r.Push.Unsubscribe != nil:
			if r.Push.Unsubscribe.Code != 2500 {
				f.T.Fatalf("%s ended with %d, want 2500", r.Push.Channel, r.Push.Unsubscribe.Code)
			}
			ended = append(ended, r.Push.Channel)
		case r.ID == 2 && r.Error != nil:
			return r.Error.Code, ended
		case r.ID == 2:
			return 0, ended
		}
	}
}

// After a reload, clients that were there have what a server that begins with the new configuration would grant them, and
// what was granted by tokens: no more, and no less, and what they keep never ends for a moment.
func TestReloadsDecideAsNewServersDo(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(rand.Uint64(), 1))
	seed := random.Uint64()
	random = rand.New(rand.NewPCG(seed, 1))
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	const alreadySubscribed, unknownChannel, badRequest = 105, 102, 107
	cfg := guarded(t, randomNamespaces(random))
	s := start(t, cfg)
	users := []string{"", "1", "2"}
	token := func(user string) string {
		if user == "" {
			return ""
		}
		return tokens(t, auth.Claims{User: user})
	}
	followers := make([]*follower, len(users))
	for i, user := range users {
		f := &follower{Client: member(t, s, token(user)), granted: map[string]string{}, has: map[string]bool{}}
		for _, name := range reloadNames {
			if user != "" && random.IntN(4) == 0 {
				f.granted[name] = tokens(t, auth.Claims{User: user, Channel: name})
			}
			code, _ := f.asks(name, f.granted[name])
			f.has[name] = code == 0
		}
		followers[i] = f
	}
	raw := map[string]*clienttest.Client{}
	dial := func(s *server, user, name string) (c *clienttest.Client, status int) {
		c = clienttest.Connect(t, s)
		c.Write(clienttest.UpgradeTo(rawTarget("/ws/", name, token(user), "")))
		if status = c.Status(t); status == 101 {
			for line := "x"; line != "\r\n"; {
				c.Patience()
				line, _ = c.In.ReadString('\n') // an error shows where the client reads next
			}
		}
		return c, status
	}
	ends, changes, stays := 0, 0, 0
	for range 12 {
		cfg.Namespaces = namespaces(t, randomNamespaces(random))
		r, err := s.Reload(cfg, ReloadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		ends += r.Unsubscribed
		fresh := start(t, cfg)
		unsubscribed := 0
		for i, user := range users {
			f, judge := followers[i], &follower{Client: member(t, fresh, token(user))}
			ended := map[string]bool{}
			for _, name := range reloadNames {
				may, _ := judge.asks(name, "")
				got, pushed := f.asks(name, "")
				for _, name := range pushed {
					ended[name] = true
				}
				want := may
				keeps := f.has[name] && (may == 0 || f.granted[name] != "" && may != unknownChannel)
				switch {
				case keeps && may == badRequest: // its name does not fit, which is looked at first
				case keeps:
					want = alreadySubscribed
					stays++
				case f.has[name]:
					unsubscribed++
					f.granted[name] = ""
				case may == 0:
					changes++
				}
				if got != want || ended[name] != (f.has[name] && !keeps) {
					t.Fatalf("user %q in %s: error %d, unsubscribed: %t; it had it: %t, by a token: %t; a new server says %d",
						user, name, got, ended[name], f.has[name], f.granted[name] != "", may)
				}
				if !keeps {
					f.granted[name] = "" // now by the rules
				}
				f.has[name] = want == 0 || keeps

				key := user + " " + name
				c, status := dial(fresh, user, name)
				c.Conn.Close()
				switch old := raw[key]; {
				case old != nil && status != 101:
					old.WantClose("it may not have "+name, ws.StatusPolicyViolation)
					delete(raw, key)
				case old != nil:
					old.Send(clienttest.Ping(key))
					old.WantPong("it may have "+name, key)
				case status == 101:
					raw[key], _ = dial(s, user, name)
				default:
					c, again := dial(s, user, name)
					if c.Conn.Close(); again != status {
						t.Fatalf("user %q in %s: %d, and a new server says %d", user, name, again, status)
					}
				}
			}
		}
		if unsubscribed != r.Unsubscribed {
			t.Fatalf("the reload says %d subscriptions, and clients %d", r.Unsubscribed, unsubscribed)
		}
	}
	if ends == 0 || changes == 0 || stays == 0 {
		t.Errorf("%d subscriptions have ended, %d were new, %d have stayed: nothing was tested", ends, changes, stays)
	}
}
