package suite

import (
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge-go"
	"github.com/google/go-cmp/cmp"
)

func TestWhoHasNoTokenIsConnectedAsNobody(t *testing.T) {
	both(t, func(t *testing.T, e encoding) {
		c := connect(t, e, shared.client(), "", nil)
		c.subscribe(t, "open:nobody")
		c.refused(t, "room:nobody", 103)
	})
}

func TestTokenOfTheCommandSaysWhoComes(t *testing.T) {
	both(t, func(t *testing.T, e encoding) {
		made, err := exec.Command(os.Getenv("SLUICE_BIN"), "token", "make", "--token-hmac-secret-file", secretFile, "--user", "ann", "--info", `{"a":1}`).Output()
		if err != nil {
			t.Fatal(err)
		}
		c := dial(t, e, shared.client(), centrifuge.Config{Token: strings.TrimSpace(string(made))})
		id := next(t, c.connected, "connected").ClientID
		p, err := c.subscribe(t, "room:made-"+string(e)).Presence(short(t))
		want := map[string]centrifuge.ClientInfo{id: {Client: id, User: "ann", ConnInfo: []byte(`{"a":1}`)}}
		if diff := cmp.Diff(want, p.Clients); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	})
}

func TestExpiredTokenIsReplacedByAFreshOne(t *testing.T) {
	both(t, func(t *testing.T, e encoding) {
		var asked atomic.Int32
		c := dial(t, e, shared.client(), centrifuge.Config{
			Token: token("ann", claims{"ttl": -5}),
			GetToken: func(centrifuge.ConnectionTokenEvent) (string, error) {
				asked.Add(1)
				return token("ann", nil), nil
			},
		})
		next(t, c.connected, "connected")
		if n := asked.Load(); n != 1 {
			t.Errorf("asked for %d tokens", n)
		}
		none(t, c.disconnected, "disconnected")
	})
}

func TestInvalidTokenEndsForGood(t *testing.T) {
	both(t, func(t *testing.T, e encoding) {
		for what, made := range map[string]string{
			"another secret": signed(strings.Repeat("x", 40), "ann", nil),
			"no token":       "no token",
			"a subscription": token("ann", claims{"channel": "open:a"}),
		} {
			c := dial(t, e, shared.client(), centrifuge.Config{Token: made})
			want := centrifuge.DisconnectedEvent{Code: 3500, Reason: "invalid token"}
			if diff := cmp.Diff(want, next(t, c.disconnected, what)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
			none(t, c.connecting, "it comes back")
		}
	})
}

func TestFreshTokensOutliveTheFirst(t *testing.T) {
	both(t, func(t *testing.T, e encoding) {
		c := dial(t, e, shared.client(), centrifuge.Config{
			Token:    token("ann", claims{"ttl": 2}),
			GetToken: func(centrifuge.ConnectionTokenEvent) (string, error) { return token("ann", nil), nil },
		})
		next(t, c.connected, "connected")
		s := c.ask(t, "$open:fresh", centrifuge.SubscriptionConfig{
			Token: token("ann", claims{"channel": "$open:fresh", "ttl": 2}),
			GetToken: func(centrifuge.SubscriptionTokenEvent) (string, error) {
				return token("ann", claims{"channel": "$open:fresh"}), nil
			},
		})
		next(t, s.subscribed, "subscribed")
		select {
		case x := <-c.connecting:
			t.Errorf("the connection ended: %+v", x)
		case x := <-s.subscribing:
			t.Errorf("the subscription ended: %+v", x)
		case <-time.After(13 * time.Second): // both would have ended after 12 s at most
		}
	})
}

func TestConnectionWithoutAFreshTokenEnds(t *testing.T) {
	both(t, func(t *testing.T, e encoding) {
		late := make(chan struct{})
		defer close(late)
		c := dial(t, e, shared.client(), centrifuge.Config{
			Token: token("ann", claims{"ttl": 2}),
			GetToken: func(centrifuge.ConnectionTokenEvent) (string, error) {
				<-late
				return token("ann", nil), nil
			},
		})
		next(t, c.connected, "connected")
		select {
		case x := <-c.connecting:
			t.Errorf("it ended too early: %+v", x)
		case <-time.After(9 * time.Second):
		}
		want := centrifuge.ConnectingEvent{Code: 3005, Reason: "connection expired"}
		if diff := cmp.Diff(want, next(t, c.connecting, "the end")); diff != "" {
			t.Error(diff)
		}
	})
}

func TestSubscriptionsAreForWhomTheNamespaceAllowsThem(t *testing.T) {
	both(t, func(t *testing.T, e encoding) {
		c := connect(t, e, shared.client(), "ann", nil)
		c.subscribe(t, "plain")
		c.subscribe(t, "personal:#ann")
		c.subscribe(t, "personal:dialog#ben,ann")
		for channel, code := range map[string]uint32{
			"closed:a": 103, "nowhere:a": 102, "$open:a": 103, "personal:#ben": 103, "open:white space": 107,
		} {
			c.refused(t, channel, code)
		}
	})
}

func TestSubscriptionTokenIsForOneUserAndChannel(t *testing.T) {
	both(t, func(t *testing.T, e encoding) {
		c := connect(t, e, shared.client(), "ann", nil)
		for _, more := range []claims{{"channel": "$open:a"}, {"channel": "$open:b", "client": c.id}} {
			s := c.ask(t, more["channel"].(string), centrifuge.SubscriptionConfig{Token: token("ann", more)})
			next(t, s.subscribed, "subscribed")
		}
		for what, made := range map[string]string{
			"another channel": token("ann", claims{"channel": "$open:b"}),
			"another user":    token("ben", claims{"channel": "$open:a"}),
			"another client":  token("ann", claims{"channel": "$open:a", "client": c.id}),
		} {
			c := connect(t, e, shared.client(), "ann", nil)
			s := c.ask(t, "$open:a", centrifuge.SubscriptionConfig{Token: made})
			if x := next(t, c.disconnected, what); x.Code != 3500 {
				t.Errorf("%s: ends with %+v", what, x)
			}
			none(t, s.subscribed, what)
		}
	})
}

func TestInvalidSubscriptionTokenCostsTheSubscription(t *testing.T) {
	both(t, func(t *testing.T, e encoding) {
		c := connect(t, e, shared.client(), "ann", nil)
		for what, made := range map[string]string{
			"no token":       "nonsense",
			"a connection":   token("ann", nil),
			"another secret": signed(strings.Repeat("x", 40), "ann", claims{"channel": "$open:a"}),
		} {
			s := c.ask(t, "$open:a", centrifuge.SubscriptionConfig{Token: made})
			if x := next(t, s.unsubscribed, what); x.Code != 103 {
				t.Errorf("%s: ends with %+v", what, x)
			}
			none(t, s.subscribed, what)
			if err := c.RemoveSubscription(s.Subscription); err != nil {
				t.Fatal(err)
			}
		}
		none(t, c.disconnected, "the connection ended")
		c.subscribe(t, "open:after-invalid")
	})
}

func TestExpiredSubscriptionTokenIsReplaced(t *testing.T) {
	both(t, func(t *testing.T, e encoding) {
		c := connect(t, e, shared.client(), "ann", nil)
		s := c.ask(t, "$open:a", centrifuge.SubscriptionConfig{
			Token: token("ann", claims{"channel": "$open:a", "ttl": -5}),
			GetToken: func(x centrifuge.SubscriptionTokenEvent) (string, error) {
				return token("ann", claims{"channel": x.Channel}), nil
			},
		})
		next(t, s.subscribed, "subscribed")
	})
}

func TestCommandsAreForWhomTheNamespaceAllowsThem(t *testing.T) {
	both(t, func(t *testing.T, e encoding) {
		c := connect(t, e, shared.client(), "ann", nil)
		nobody := connect(t, e, shared.client(), "", nil)
		_, publish := c.Publish(short(t), "closed:a", []byte("1"))
		_, unknown := c.Publish(short(t), "nowhere:a", []byte("1"))
		_, anonymous := nobody.Publish(short(t), "stream:rights", []byte("1"))
		_, presence := c.Presence(short(t), "room:not-mine")
		_, stats := c.PresenceStats(short(t), "room:not-mine")
		_, history := c.History(short(t), "open:a")
		_, rpc := c.RPC(short(t), "method", []byte("{}"))
		got := []uint32{code(t, publish), code(t, unknown), code(t, anonymous), code(t, presence), code(t, stats), code(t, history), code(t, rpc)}
		if diff := cmp.Diff([]uint32{103, 102, 103, 103, 103, 108, 108}, got); diff != "" {
			t.Errorf("codes (-want +got):\n%s", diff)
		}
		if err := c.Send(short(t), []byte("{}")); err != nil {
			t.Error(err)
		}
		if got := next(t, c.disconnected, "a message that no hook takes"); got.Code != 3508 {
			t.Errorf("a message that no hook takes ends with %d %s", got.Code, got.Reason)
		}
	})
}
