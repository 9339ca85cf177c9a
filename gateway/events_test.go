package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/gateway/access/auth"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine/nats/natstest"
	"sluice/gateway/event"
	"sluice/gateway/event/eventtest"
)

// notified returns a configuration with a webhook that gets events of all types.
func notified(r *eventtest.Receiver, cfg Config) Config {
	cfg.Webhooks = []Webhook{{URL: r.URL, Secrets: eventtest.Secret, EventOptions: EventOptions{Types: event.All}}}
	if cfg.VacatedDelay == 0 {
		cfg.VacatedDelay = -1
	}
	return cfg
}

// What a client of each protocol does is seen at an endpoint: over HTTP, signed.
func TestEventsOfEachProtocol(t *testing.T) {
	t.Parallel()
	subscribe := `{"id":2,"subscribe":{"channel":"room"}}`
	withToken := func(t *testing.T) string {
		return tokens(t, auth.Claims{User: "7", Channels: []string{"room"}})
	}
	connectBy := func(t *testing.T) string {
		return "?cf_connect=" + url.QueryEscape(`{"token":"`+withToken(t)+`"}`)
	}
	for _, test := range []struct {
		name, transport string
		user            string
		begins          func(t *testing.T, s *server) *clienttest.Client
	}{
		{"raw WebSocket", "websocket", "", func(t *testing.T, s *server) *clienttest.Client {
			return clienttest.Dial(t, s, "/ws/room")
		}},
		{"raw WebSocket with a token", "websocket", "7", func(t *testing.T, s *server) *clienttest.Client {
			return clienttest.Dial(t, s, "/ws/room?token="+withToken(t))
		}},
		{"JSON records", "websocket", "", func(t *testing.T, s *server) *clienttest.Client {
			return clienttest.Dial(t, s, "/ws/room?format=json")
		}},
		{"SSE", "uni_sse", "", func(t *testing.T, s *server) *clienttest.Client {
			return clienttest.Stream(t, s, "/sse/room")
		}},
		{"client", "websocket", "", func(t *testing.T, s *server) *clienttest.Client {
			c := clienttest.Dial(t, s, pathClient)
			c.Connects("")
			c.Does(subscribe)
			c.Told("subscribe")
			return c
		}},
		{"server-side subscription", "websocket", "7", func(t *testing.T, s *server) *clienttest.Client {
			c := clienttest.Dial(t, s, pathClient)
			c.Connects(withToken(t))
			return c
		}},
		{"unidirectional WebSocket", "uni_websocket", "7", func(t *testing.T, s *server) *clienttest.Client {
			return clienttest.Dial(t, s, pathUniClient+connectBy(t))
		}},
		{"unidirectional SSE", "uni_sse", "7", func(t *testing.T, s *server) *clienttest.Client {
			return clienttest.Stream(t, s, pathUniSSE+connectBy(t))
		}},
		{"unidirectional HTTP", "uni_http_stream", "7", func(t *testing.T, s *server) *clienttest.Client {
			return clienttest.Lines(t, s, pathUniHTTP, `{"token":"`+withToken(t)+`"}`)
		}},
		{"emulated HTTP", "http_stream", "", func(t *testing.T, s *server) *clienttest.Client {
			c := clienttest.Emulate(t, s, "")
			c.Does(subscribe)
			c.Told("subscribe")
			return c.Client
		}},
		{"emulated SSE", "sse", "", func(t *testing.T, s *server) *clienttest.Client {
			c := &clienttest.Emulated{Client: clienttest.Stream(t, s, pathSSE+"?cf_connect="+url.QueryEscape(`{"id":1,"connect":{}}`)), Posts: clienttest.Connect(t, s)}
			c.Knows(c.Pushed(t))
			c.Does(subscribe)
			return c.Client
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := eventtest.New(t)
			s := start(t, notified(r, open(t)))
			c := test.begins(t, s)
			r.WantOf("a subscriber", "room", "occupied", "subscribed")
			in := r.Wait("a client", func(e *eventtest.Event) bool { return e.Type == "connected" })
			if in.Transport != test.transport || in.User != test.user || in.Client == "" {
				t.Errorf("%+v", in)
			}
			s.publish("room", `{"a":1}`)
			r.Wait("a publication", func(e *eventtest.Event) bool {
				return e.Type == "publication" && string(e.Data) == `{"a":1}` && e.Client == ""
			})
			c.Vanish()
			out := r.Wait("its end", func(e *eventtest.Event) bool { return e.Type == "disconnected" })
			if out.Client != in.Client || out.User != in.User || out.Transport != in.Transport || out.Code == 0 || out.Reason == "" {
				t.Errorf("connected %+v, disconnected %+v", in, out)
			}
			r.WantOf("it to have left", "room", "occupied", "subscribed", "publication", "unsubscribed", "vacated")
			r.WantOccupied("nobody to be left")
		})
	}
}

// open returns a configuration in which everybody may do everything, and tokens are read, too.
func open(t *testing.T) Config {
	return guarded(t, `{"without_namespace": {"allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true, "allow_publish_for_client": true, "allow_publish_for_anonymous": true}}`)
}

// The clients that are left say how many a channel has: of one that comes back in time nothing is said.
func TestVacatedIsDelayed(t *testing.T) {
	t.Parallel()
	r := eventtest.New(t)
	s := start(t, notified(r, Config{Raw: RawPublish, VacatedDelay: time.Hour}))
	a := clienttest.Dial(t, s, "/ws/x")
	b := clienttest.Dial(t, s, "/ws/x?format=json")
	r.WantOf("two", "x", "occupied", "subscribed", "subscribed")
	for _, c := range []*clienttest.Client{a, b} {
		c.Vanish()
	}
	clienttest.WaitFor(t, "both to be gone", func() bool {
		return len(r.Events(func(e *eventtest.Event) bool { return e.Type == "unsubscribed" })) == 2
	})
	clienttest.Dial(t, s, "/ws/x")
	r.WantOf("one that is back", "x", "occupied", "subscribed", "subscribed", "unsubscribed", "unsubscribed", "subscribed")
}

// Nodes that share channels count together: one of them sends the events of a channel, also for one that has no webhooks.
func TestEventsOfSeveralNodes(t *testing.T) {
	t.Parallel()
	at := natstest.Start(t, natstest.Options{JetStream: true}).URL()
	r := eventtest.New(t)
	with := startServers(t, 2, notified(r, Config{Raw: RawPublish}), at)
	without := start(t, Config{Raw: RawPublish, Name: "without", Store: Store{NATSURL: []string{at}}})
	all := append(with, without)
	for _, s := range all {
		clienttest.WaitFor(t, "the gateway to be ready", func() bool { return s.asked("GET", "/readyz", "").Code == http.StatusOK })
	}
	// x is on all nodes, and each other channel on one.
	var clients []*clienttest.Client
	want := []string{"x"}
	for i, s := range all {
		clients = append(clients, clienttest.Dial(t, s, "/ws/x"))
		for j := range 20 {
			name := fmt.Sprint("c", i, "-", j)
			clienttest.Dial(t, s, "/ws/"+name)
			want = append(want, name)
		}
	}
	r.WantOccupied("all are occupied", slices.Clone(want)...)
	clients[2].Vanish()
	clients[0].Vanish()
	clienttest.WaitFor(t, "one to be left", func() bool { return all[0].space.Find("x") == nil && all[2].space.Find("x") == nil })
	gone := clienttest.Dial(t, without, "/ws/other")
	r.WantOccupied("one more", append([]string{"other"}, want...)...)
	gone.Vanish()
	r.WantOccupied("x still is", slices.Clone(want)...)
	clients[1].Vanish()
	r.WantOccupied("x is not", want[1:]...)
	r.Wait("its end", func(e *eventtest.Event) bool { return e.Channel == "x" && e.Type == "vacated" && e.Scope == "" })

	// One that shuts down hands its partitions over. Its clients have not come back, and so their channels are vacated.
	ctx, cancel := context.WithTimeout(t.Context(), clienttest.Patience)
	defer cancel()
	if err := with[0].shutdown(ctx); err != nil {
		t.Error(err)
	}
	rest := slices.DeleteFunc(slices.Clone(want[1:]), func(name string) bool { return strings.HasPrefix(name, "c0-") })
	r.WantOccupied("those of the nodes that are left", rest...)
}
