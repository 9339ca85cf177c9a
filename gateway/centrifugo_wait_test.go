package gateway

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"sluice/gateway/access/auth"
	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
	"sluice/gateway/engine/local"
	"sluice/gateway/loop"
	"sluice/gateway/presence"
)

// store is an engine that stores publications elsewhere, and answers when the test says so. What
// it has stored is published on this node.
type store struct {
	engine.Engine // the local one
	got           chan stored
	asked         chan func() // each answers a question
}

// stored is a publication on its way to a store.
type stored struct {
	s       *store
	pub     channel.Publication
	channel *channel.Channel
	caller  engine.Caller
}

func (s *store) Publish(_ string, ch *channel.Channel, p *channel.Publication, _ *channel.Scratch, c engine.Caller) (channel.Receipt, error) {
	kept := *p
	kept.Payload, kept.Extra = []byte(string(p.Payload)), []byte(string(p.Extra))
	s.got <- stored{s, kept, ch, c}
	return channel.Receipt{}, engine.ErrPending
}

func (s *store) History(q engine.HistoryQuery, done func(channel.Collected, error)) {
	s.asked <- func() { s.Engine.History(q, done) }
}

func (s *store) Presence(name string, most int, done func(engine.Presence, error)) {
	s.asked <- func() { s.Engine.Presence(name, most, done) }
}

func (s *store) next(t testing.TB) stored {
	t.Helper()
	return clienttest.Receive(t, "the store to be asked", s.got)
}

// answer stores the publication, unless err says that this failed.
func (p stored) answer(err error) {
	var r channel.Receipt
	if p.channel != nil && err == nil {
		r, err = p.s.Engine.Publish(p.channel.Name(), p.channel, &p.pub, new(channel.Scratch), nil)
	}
	p.caller.Published(r, err)
}

// startStore starts a server with a store.
func startStore(t testing.TB, cfg Config) (*server, *store) {
	e := &store{got: make(chan stored, 64), asked: make(chan func(), 64)}
	return startWith(t, cfg, parts{engine: func(space *channel.Space, present *presence.Table) engine.Engine {
		e.Engine = local.Engine{Space: space, Present: present}
		return e
	}}), e
}

// keySet is a key set that comes when the test says so.
type keySet struct {
	key     ed25519.PrivateKey
	release func()
	url     string
}

func holdKeySet(t testing.TB) *keySet {
	_, key, _ := ed25519.GenerateKey(nil) // cannot fail
	held := make(chan struct{})
	k := &keySet{key: key, release: sync.OnceFunc(func() { close(held) })}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		<-held
		fmt.Fprintf(w, `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":"%s"}]}`, base64.RawURLEncoding.EncodeToString(key.Public().(ed25519.PublicKey)))
	}))
	t.Cleanup(server.Close)
	t.Cleanup(k.release)
	k.url = server.URL
	return k
}

// config returns a configuration whose tokens have keys of the set, and of an HMAC secret.
func (k *keySet) config(t testing.TB) Config {
	cfg := guarded(t, rightsFile)
	ended, cancel := context.WithCancel(t.Context())
	cancel() // the set is not waited for
	v, err := auth.New(ended, auth.Options{HMACSecrets: [][]byte{[]byte(testSecret)}, JWKSURL: k.url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	cfg.Tokens = v
	return cfg
}

// waitingCommands are commands that wait, in a server where something does not answer. Each may
// have %s for a token that cannot be verified yet.
var waitingCommands = []struct {
	name, command, done string
}{
	{"publish", `{"id":7,"publish":{"channel":"clients:x","data":1}}`, `{"id":7,"publish":{}}`},
	{"subscribe", `{"id":7,"subscribe":{"channel":"shut:x","token":"%s"}}`, `{"id":7,"subscribe":{}}`},
	{"history", `{"id":7,"history":{"channel":"look:x"}}`, `{"id":7,"history":{"publications":[],"epoch":"E","offset":0}}`},
	{"presence", `{"id":7,"presence":{"channel":"look:x"}}`, `{"id":7,"presence":{"presence":{"ID":{"user":"42","client":"ID"}}}}`},
	{"presence_stats", `{"id":7,"presence_stats":{"channel":"look:x"}}`, `{"id":7,"presence_stats":{"num_clients":1,"num_users":1}}`},
	{"refresh", `{"id":7,"refresh":{"token":"%s"}}`, `{"id":7,"refresh":{"client":"ID","version":"sluice"}}`},
}

// Commands behind one that waits, in its message and in others, are done behind it, whatever it
// waits for; and nothing is lost where it waits too long.
func TestCommandsWaitInTheirOrder(t *testing.T) {
	t.Parallel()
	for _, w := range waitingCommands {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/late=%v", w.name, late), func(t *testing.T) {
				t.Parallel()
				keys := holdKeySet(t)
				s, e := startStore(t, keys.config(t))
				c := member(t, s, tokens(t, auth.Claims{User: "42"}))
				c.Joins("clients:x")
				c.Joins("look:x")
				command := w.command
				if strings.Contains(command, "%s") {
					claims := auth.Claims{User: "42"}
					if w.name == "subscribe" {
						claims.Channel = "shut:x"
					}
					command = fmt.Sprintf(command, clienttest.SignedBy(t, keys.key, claims))
				}
				c.Send(clienttest.Text(`{"id":5,"ping":{}}`+"\n"+command+"\n"+`{"id":8,"ping":{}}`+"\n"+`{"id":9,"ping":{}}`), clienttest.Text(`{"id":10,"ping":{}}`))
				c.WantTold("before it", `{"id":5,"ping":{}}`)
				var p stored
				release := keys.release
				switch w.name {
				case "publish":
					p = e.next(t)
					release = func() { p.answer(nil) }
				case "history", "presence", "presence_stats":
					release = clienttest.Receive(t, "the engine to be asked", e.asked)
				default:
					clienttest.WaitFor(t, "it to wait", func() (parked bool) {
						s.Each(func(c *loop.Conn) { parked = parked || c.Parked() })
						return parked
					})
				}
				answer := w.done
				if late {
					s.Pass(5)
					answer = `{"id":7,"error":{"code":100,"message":"internal server error","temporary":true}}`
				} else {
					release()
				}
				c.WantTold("its answer", answer)
				for _, id := range []string{"8", "9", "10"} {
					c.WantTold("behind it", `{"id":`+id+`,"ping":{}}`)
				}
				if late { // the answer comes
					release()
				}
				if w.name == "publish" {
					c.WantTold("it was stored, late or not", `{"push":{"channel":"clients:x","pub":{"data":1,"info":{"user":"42","client":"ID"},"offset":1}}}`)
				}
				c.Does(`{"id":11,"ping":{}}`)
				c.WantTold("it goes on", `{"id":11,"ping":{}}`)
			})
		}
	}
}

// A client that connects with a token that is not verified in time is asked to come back.
func TestConnectThatWaitsTooLong(t *testing.T) {
	t.Parallel()
	keys := holdKeySet(t)
	s := start(t, keys.config(t))
	token := clienttest.SignedBy(t, keys.key, auth.Claims{User: "42"})
	c, gone := clienttest.Dial(t, s, pathClient), clienttest.Dial(t, s, pathClient)
	only := clienttest.Ask(t, s, pathUniClient+"?cf_connect="+url.QueryEscape(`{"token":"`+token+`"}`))
	for _, c := range []*clienttest.Client{c, gone} {
		c.Does(`{"id":1,"connect":{"token":"`+token+`"}}`, `{"id":2,"ping":{}}`)
	}
	clienttest.WaitFor(t, "all to wait", func() bool {
		n := 0
		s.Each(func(c *loop.Conn) {
			if c.Parked() {
				n++
			}
		})
		return n == 3
	})
	if n := s.Held(); n < int64(3*len(token)) {
		t.Errorf("%d bytes are held for three tokens", n)
	}
	gone.Vanish()
	s.Pass(5)
	only.WantUpgrade("it learns the reason")
	only.WantClose("nobody else could tell it", 3004)
	c.WantTold("temporary", `{"id":1,"error":{"code":100,"message":"internal server error","temporary":true}}`)
	c.WantClose("a ping from a client that is not connected", 3501)
	keys.release()
	clienttest.WaitFor(t, "all to be gone", func() bool { return s.connections() == 0 })
	again := clienttest.Dial(t, s, pathClient)
	again.Connects(token)
}

// Joins and leaves wait for the store one after the other, in their order.
func TestJoinsWaitForTheStore(t *testing.T) {
	t.Parallel()
	cfg := guarded(t, `{"without_namespace":{"allow_subscribe_for_client":true,"join_leave":true,"force_push_join_leave":true}}`)
	cfg.Loops = 1
	s, e := startStore(t, cfg)
	reader := member(t, s, tokens(t, auth.Claims{User: "reader"}))
	reader.Joins("x")
	e.next(t).answer(nil)
	reader.Told("its own join")
	other := member(t, s, tokens(t, auth.Claims{User: "other"}))
	for range 2 {
		other.Joins("x")
		other.Does(`{"id":3,"unsubscribe":{"channel":"x"}}`)
		for !strings.Contains(other.Told("unsubscribe"), `"unsubscribe"`) {
		}
	}
	for i, want := range []string{"join", "leave", "", "leave"} {
		p := e.next(t)
		if s.Quiet(); len(e.got) > 0 {
			t.Fatal("the next one went to the store before the answer")
		}
		if want == "" { // this one is lost
			p.answer(engine.ErrUnavailable)
			continue
		}
		p.answer(nil)
		if got := reader.Told(want); !strings.Contains(got, `"`+want+`":`) {
			t.Fatalf("%d: got %s, want a %s", i, got, want)
		}
	}
}
