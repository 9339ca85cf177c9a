package suite

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge-go"
	"github.com/google/go-cmp/cmp"
)

const patience = 30 * time.Second // for what is expected

// both runs a test with each encoding, beside others.
func both(t *testing.T, test func(t *testing.T, e encoding)) {
	t.Parallel()
	for _, e := range []encoding{"JSON", "Protobuf"} {
		t.Run(string(e), func(t *testing.T) {
			t.Parallel()
			test(t, e)
		})
	}
}

type encoding string

// client is the library's, with what it says in channels with room for all of it.
type client struct {
	*centrifuge.Client
	id           string
	connecting   chan centrifuge.ConnectingEvent
	connected    chan centrifuge.ConnectedEvent
	disconnected chan centrifuge.DisconnectedEvent
	failed       chan error

	// Of subscriptions that the server began.
	subscribed   chan centrifuge.ServerSubscribedEvent
	unsubscribed chan centrifuge.ServerUnsubscribedEvent
	published    chan centrifuge.ServerPublicationEvent
}

const room = 4096

// dial connects and does not wait for what becomes of it.
func dial(t *testing.T, e encoding, url string, cfg centrifuge.Config) *client {
	t.Helper()
	cfg.MinReconnectDelay, cfg.MaxReconnectDelay = 10*time.Millisecond, 100*time.Millisecond
	c := &client{
		connecting:   make(chan centrifuge.ConnectingEvent, room),
		connected:    make(chan centrifuge.ConnectedEvent, room),
		disconnected: make(chan centrifuge.DisconnectedEvent, room),
		failed:       make(chan error, room),
		subscribed:   make(chan centrifuge.ServerSubscribedEvent, room),
		unsubscribed: make(chan centrifuge.ServerUnsubscribedEvent, room),
		published:    make(chan centrifuge.ServerPublicationEvent, room),
	}
	if e == "JSON" {
		c.Client = centrifuge.NewJsonClient(url, cfg)
	} else {
		c.Client = centrifuge.NewProtobufClient(url, cfg)
	}
	c.OnConnecting(func(x centrifuge.ConnectingEvent) { c.connecting <- x })
	c.OnConnected(func(x centrifuge.ConnectedEvent) { c.connected <- x })
	c.OnDisconnected(func(x centrifuge.DisconnectedEvent) { c.disconnected <- x })
	c.OnError(func(x centrifuge.ErrorEvent) { c.failed <- x.Error })
	c.OnSubscribed(func(x centrifuge.ServerSubscribedEvent) { c.subscribed <- x })
	c.OnUnsubscribed(func(x centrifuge.ServerUnsubscribedEvent) { c.unsubscribed <- x })
	c.OnPublication(func(x centrifuge.ServerPublicationEvent) { c.published <- x })
	t.Cleanup(c.Close)
	if err := c.Connect(); err != nil {
		t.Fatal(err)
	}
	next(t, c.connecting, "connect was called")
	return c
}

// connect gives the connected client of a user.
func connect(t *testing.T, e encoding, url, user string, more claims) *client {
	t.Helper()
	cfg := centrifuge.Config{}
	if user != "" {
		cfg.Token = token(user, more)
	}
	c := dial(t, e, url, cfg)
	c.id = next(t, c.connected, "connected").ClientID
	return c
}

// next gives the next event.
func next[T any](t *testing.T, events <-chan T, what string) T {
	t.Helper()
	return within(t, patience, events, what)
}

func within[T any](t *testing.T, bound time.Duration, events <-chan T, what string) T {
	t.Helper()
	select {
	case x := <-events:
		return x
	case <-time.After(bound):
		t.Fatalf("waited in vain: %s", what)
		panic("not reached")
	}
}

// none fails where there is an event, or comes soon.
func none[T any](t *testing.T, events <-chan T, what string) {
	t.Helper()
	select {
	case x := <-events:
		t.Errorf("%s: %+v", what, x)
	case <-time.After(100 * time.Millisecond):
	}
}

// subscription is the library's, with what it says.
type subscription struct {
	*centrifuge.Subscription
	subscribing  chan centrifuge.SubscribingEvent
	subscribed   chan centrifuge.SubscribedEvent
	unsubscribed chan centrifuge.UnsubscribedEvent
	published    chan centrifuge.PublicationEvent
	joined       chan centrifuge.JoinEvent
	gone         chan centrifuge.LeaveEvent
	failed       chan error
}

// ask asks for a subscription and does not wait for the answer.
func (c *client) ask(t *testing.T, channel string, cfg centrifuge.SubscriptionConfig) *subscription {
	t.Helper()
	cfg.MinResubscribeDelay, cfg.MaxResubscribeDelay = 10*time.Millisecond, 100*time.Millisecond
	sub, err := c.NewSubscription(channel, cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := &subscription{
		Subscription: sub,
		subscribing:  make(chan centrifuge.SubscribingEvent, room),
		subscribed:   make(chan centrifuge.SubscribedEvent, room),
		unsubscribed: make(chan centrifuge.UnsubscribedEvent, room),
		published:    make(chan centrifuge.PublicationEvent, room),
		joined:       make(chan centrifuge.JoinEvent, room),
		gone:         make(chan centrifuge.LeaveEvent, room),
		failed:       make(chan error, room),
	}
	sub.OnSubscribing(func(x centrifuge.SubscribingEvent) { s.subscribing <- x })
	sub.OnSubscribed(func(x centrifuge.SubscribedEvent) { s.subscribed <- x })
	sub.OnUnsubscribed(func(x centrifuge.UnsubscribedEvent) { s.unsubscribed <- x })
	sub.OnPublication(func(x centrifuge.PublicationEvent) { s.published <- x })
	sub.OnJoin(func(x centrifuge.JoinEvent) { s.joined <- x })
	sub.OnLeave(func(x centrifuge.LeaveEvent) { s.gone <- x })
	sub.OnError(func(x centrifuge.SubscriptionErrorEvent) { s.failed <- x.Error })
	if err := sub.Subscribe(); err != nil {
		t.Fatal(err)
	}
	next(t, s.subscribing, "subscribe was called")
	return s
}

// subscribe gives a subscription that has begun.
func (c *client) subscribe(t *testing.T, channel string) *subscription {
	t.Helper()
	s := c.ask(t, channel, centrifuge.SubscriptionConfig{})
	next(t, s.subscribed, "subscribed to "+channel)
	return s
}

// refused holds that a subscription is refused for good with a code.
func (c *client) refused(t *testing.T, channel string, code uint32) {
	t.Helper()
	s := c.ask(t, channel, centrifuge.SubscriptionConfig{})
	if got := next(t, s.unsubscribed, "refusal of "+channel); got.Code != code {
		t.Errorf("%s is refused with %d %s, want %d", channel, got.Code, got.Reason, code)
	}
	if err := c.RemoveSubscription(s.Subscription); err != nil {
		t.Error(err)
	}
}

// hears holds that the next publications are these numbers, and their offsets too where
// offset is the first one's.
func (s *subscription) hears(t *testing.T, from, to int, offset uint64) {
	t.Helper()
	for i := from; i <= to; i++ {
		p := next(t, s.published, fmt.Sprint("publication ", i))
		if string(p.Data) != strconv.Itoa(i) || offset > 0 && p.Offset != offset+uint64(i-from) {
			t.Fatalf("heard %s at %d, want %d", p.Data, p.Offset, i)
		}
	}
}

// recovery is what a subscription says of it.
type recovery struct{ WasRecovering, Recovered bool }

func (s *subscription) recovers(t *testing.T, want recovery) centrifuge.SubscribedEvent {
	t.Helper()
	x := next(t, s.subscribed, "subscribed again")
	if diff := cmp.Diff(want, recovery{x.WasRecovering, x.Recovered}); diff != "" {
		t.Errorf("%s (-want +got):\n%s", s.Channel, diff)
	}
	return x
}

// short is for one command.
func short(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// code gives an error's, 0 for none.
func code(t *testing.T, err error) uint32 {
	t.Helper()
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[*centrifuge.Error](err); ok {
		return e.Code
	}
	t.Errorf("no error of the protocol: %v", err)
	return 0
}
