package event

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// read returns what a reader gets next, without waiting.
func readAll(t *testing.T, r *Reader) (list []Event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for {
		entries, err := r.Next(ctx)
		if err != nil {
			return list
		}
		for _, x := range entries {
			var e Event
			if err := json.Unmarshal(x.JSON, &e); err != nil {
				t.Fatal(err)
			}
			list = append(list, e)
		}
	}
}

// A reader that is too far behind begins anew: it misses nothing without a reset.
func TestReadersThatAreTooFarBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(Config{FeedBytes: 8 << 10})
		defer n.Close(t.Context())
		r, err := n.OpenReader(t.Context(), Filter{}, "")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		readAll(t, r)
		for i := range 10 {
			n.Join(fmt.Sprintf("room:%d", i))
		}
		if got := readAll(t, r); len(got) != 10 || got[9].Seq != got[0].Seq+9 {
			t.Fatalf("%+v", got)
		}
		for i := range 1000 {
			n.Join(fmt.Sprintf("chat:%d", i))
		}
		time.Sleep(time.Second)
		got := readAll(t, r)
		if len(got) != 1011 || got[0].Type != Reset {
			t.Errorf("%d events, the first is %+v", len(got), got[0])
		}
		ids := make(map[string]bool)
		for _, e := range got {
			ids[e.ID] = true
		}
		if len(ids) != len(got) {
			t.Errorf("%d IDs of %d events", len(ids), len(got))
		}
		n.feed.mu.Lock()
		if n.feed.bytes > 8<<10 {
			t.Errorf("%d bytes", n.feed.bytes)
		}
		n.feed.mu.Unlock()
	})
}

// A minute after the last reader has gone nothing is kept any more.
func TestNothingIsKeptWithoutReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(Config{})
		defer n.Close(t.Context())
		if n.Wants(Publication) {
			t.Error("wanted by nobody")
		}
		r, err := n.OpenReader(t.Context(), Filter{Types: 1 << Publication}, "")
		if err != nil {
			t.Fatal(err)
		}
		readAll(t, r)
		n.Emit(Event{Type: Publication, Channel: "news", Bytes: []byte("1")})
		last := readAll(t, r)[0].ID
		r.Close()
		n.Emit(Event{Type: Publication, Channel: "news", Bytes: []byte("2")})
		time.Sleep(50 * time.Second)
		r, err = n.OpenReader(t.Context(), Filter{Types: 1 << Publication}, last)
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, r); len(got) != 1 || string(got[0].Data) != "2" {
			t.Errorf("%+v", got)
		}
		r.Close()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n.Wants(Publication) {
			t.Error("wanted by nobody")
		}
		r, err = n.OpenReader(t.Context(), Filter{Types: 1 << Publication}, last)
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, r); len(got) != 1 || got[0].Type != Reset {
			t.Errorf("%+v", got)
		}
		r.Close()
	})
}

func TestReadersEndWithTheNotifier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(Config{})
		r, err := n.OpenReader(t.Context(), Filter{}, "")
		if err != nil {
			t.Fatal(err)
		}
		readAll(t, r)
		n.Close(t.Context()) // ignored: there is no receiver
		if _, err := r.Next(t.Context()); err != errClosed {
			t.Error(err)
		}
		if _, err := n.OpenReader(t.Context(), Filter{}, ""); err != errClosed {
			t.Error(err)
		}
	})
}
