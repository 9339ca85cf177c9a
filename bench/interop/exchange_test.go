package interop

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"sluice/bench/record"
)

// subscription is a connection to the channel that all share.
type subscription struct {
	*conn
	scheme string
	id     string // the gateway's for the connection, with format=json; else ""
	lost   error  // why it is of no use any more
}

func (s *subscription) format() string {
	if s.id == "" {
		return "raw"
	}
	return "json"
}

// subscribe opens two subscriptions of each client on each scheme.
func subscribe(ctx context.Context, clients []*client, g *gateway) (subs []*subscription, err error) {
	for _, c := range clients {
		for _, scheme := range schemes {
			raw, err := c.open(ctx, g.URL(scheme, "/ws/interop"), trustFor(scheme, g))
			if err != nil {
				return nil, err
			}
			full, err := c.open(ctx, g.URL(scheme, "/ws/interop?format=json&since=now"), trustFor(scheme, g))
			if err != nil {
				return nil, err
			}
			first, err := full.next(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: position of the subscription: %w", c.name, err)
			}
			place, err := readRecord(first.message)
			if err != nil || place.Kind != record.Position || place.Conn == "" {
				return nil, fmt.Errorf("%s: position of the subscription: got %v", c.name, first)
			}
			subs = append(subs, &subscription{conn: raw, scheme: scheme}, &subscription{conn: full, scheme: scheme, id: place.Conn})
		}
	}
	return subs, nil
}

// stayedOpen waits until a client that answers no pings would have been closed. Pings
// to one connection are a second apart at least, so after this many for each it
// has been longer than interval and time-out.
func stayedOpen(t *testing.T, subs []*subscription, g *gateway) {
	want := 5 * len(subs)
	if got := g.until(t, want, "sluice_pings_total", "", ""); got < want {
		t.Errorf("%d pings to %d connections in %v, want %d", got, len(subs), patience, want)
	}
	for _, s := range subs {
		select {
		case h := <-s.heard:
			s.lost = fmt.Errorf("got %v, want nothing but pings", h)
		default:
		}
		result(t, s.client, s.scheme, "responds to pings", s.lost)
	}
}

// scriptOf gives what one publisher sends. Its name makes it unlike those of others.
func scriptOf(name string) []message {
	messages := []message{{payload: name}, {true, name + allBytes}, {payload: ""}, {true, ""}, {payload: fullText}, {true, fullText}}
	messages = append(messages, fragmented[:2]...)
	for i := range 20 {
		messages = append(messages, message{i%2 == 1, fmt.Sprint(name, " \u2192 ", i)})
	}
	return messages
}

// exchange lets all publish at once and compares what each received.
func exchange(ctx context.Context, t *testing.T, subs []*subscription, g *gateway) {
	scripts := map[string][]message{"api": scriptOf("api")}
	var publishing sync.WaitGroup
	faults := make([]error, len(subs))
	for i, s := range subs {
		if s.id == "" || s.lost != nil {
			continue
		}
		scripts[s.id] = scriptOf(s.name + " " + s.scheme)
		publishing.Go(func() { faults[i] = s.publishAll(scriptOf(s.name + " " + s.scheme)) })
	}
	publishing.Go(func() {
		for _, m := range scripts["api"] {
			if err := g.publish("interop", m); err != nil {
				t.Error(err)
			}
		}
	})
	publishing.Wait()
	total := 0
	for _, script := range scripts {
		total += len(script)
	}

	// All of it must come in one time: not every connection waits for what another lost.
	receiving, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var reference ledger // of publications, as the first json subscriber tells them
	ledgers := make([]ledger, len(subs))
	var records ledger // the same, as the bytes that it got
	for i, s := range subs {
		if s.lost != nil {
			continue
		}
		var parsed []record.Record
		for len(ledgers[i]) < total && s.lost == nil {
			h, err := s.next(receiving)
			if err == nil && h.what != "message" {
				err = fmt.Errorf("got %v", h)
			}
			if err != nil {
				s.lost = fmt.Errorf("after %d messages of %d: %w", len(ledgers[i]), total, err)
				break
			}
			if s.id != "" {
				var one record.Record
				one, s.lost = readRecord(h.message)
				parsed = append(parsed, one)
			}
			ledgers[i] = append(ledgers[i], entryOf(h.message))
		}
		if s.id != "" && s.lost == nil && reference == nil {
			reference, s.lost = check(parsed, scripts)
			records = ledgers[i]
		}
	}
	for i, s := range subs {
		err := errors.Join(faults[i], s.lost)
		switch {
		case err != nil:
		case reference == nil:
			err = errors.New("no ledger to compare with: no client got everything with format=json")
		case s.id != "":
			err = same(ledgers[i], records)
		default:
			err = same(ledgers[i], reference)
		}
		result(t, s.client, s.scheme, "ledger "+s.format(), err)
	}
}

func (s *subscription) publishAll(messages []message) error {
	_, whole := s.lacks[fragments]
	for _, m := range messages {
		send := s.send
		if len(m.payload) > partBytes && !whole {
			send = s.sendParts
		}
		if err := send(m); err != nil {
			return err
		}
	}
	return nil
}

// lastWords: after everything that was published, each is told that the gateway ends.
func lastWords(ctx context.Context, t *testing.T, subs []*subscription) {
	for _, s := range subs {
		if s.lost == nil {
			s.lost = s.expect(ctx, heard{what: "closed", code: 1001, reason: "server is shutting down"})
		}
		result(t, s.client, s.scheme, "shutdown: 1001", s.lost)
	}
}
