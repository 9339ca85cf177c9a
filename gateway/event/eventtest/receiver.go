// Package eventtest is a receiver of webhooks for tests, which does what the documentation asks of receivers. Only tests import
// it. It does not know the gateway: it verifies signatures, and counts, with code of its own.
package eventtest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Patience bounds every wait.
const Patience = time.Minute

// Secret signs what a Receiver accepts.
const Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// Event is an event as a receiver reads it.
type Event struct {
	Time         int64           `json:"time_ms"`
	Channel      string          `json:"channel"`
	Type         string          `json:"type"`
	ID           string          `json:"id"`
	Seq          uint64          `json:"seq"`
	Partition    int             `json:"partition"`
	Epoch        string          `json:"epoch"`
	Node         string          `json:"node"`
	Scope        string          `json:"scope"`
	Client       string          `json:"client"`
	User         string          `json:"user"`
	Transport    string          `json:"transport"`
	Code         uint32          `json:"code"`
	Reason       string          `json:"reason"`
	Data         json.RawMessage `json:"data"`
	Offset       uint64          `json:"offset"`
	HistoryEpoch string          `json:"history_epoch"`
	Occupied     *bool           `json:"occupied"`
	Page         int             `json:"page"`
	Pages        int             `json:"pages"`
	Channels     []string        `json:"channels"`
}

// Receiver is an endpoint that keeps the events that it was sent, and the state of channels. Its methods are safe for concurrent
// use.
type Receiver struct {
	t   testing.TB
	URL string
	srv *httptest.Server

	mu sync.Mutex
	// Guarded by mu.
	failing bool
	seen    map[sender]place
	parts   map[int]*part
	events  []Event // without repeated ones
	ended   bool
}

type sender struct {
	node      string
	partition int
}

type place struct {
	epoch string
	seq   uint64
}

type part struct {
	epoch    string
	occupied map[string]bool
	page     map[string]bool
}

// New starts a receiver, which serves until the test ends.
func New(t testing.TB) *Receiver {
	r := &Receiver{t: t, seen: make(map[sender]place), parts: make(map[int]*part)}
	r.srv = httptest.NewServer(r)
	r.URL = r.srv.URL + "/events"
	t.Cleanup(func() {
		r.mu.Lock()
		r.ended = true
		r.mu.Unlock()
		r.srv.Close()
	})
	return r
}

// Fail has the receiver answer with 500, or not any more.
func (r *Receiver) Fail(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failing = on
}

// ServeHTTP implements http.Handler.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return // the gateway has ended
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failing || r.ended {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	if err := verify(q.Header, body); err != nil {
		r.t.Error(err)
	}
	r.accept(body)
	io.WriteString(w, `{"result":{}}`) // ignored: then it is sent again
}

// Accept takes a body that did not come over HTTP.
func (r *Receiver) Accept(body []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.accept(body)
}

func (r *Receiver) accept(body []byte) {
	var b struct{ Events []Event }
	if err := json.Unmarshal(body, &b); err != nil || len(b.Events) == 0 {
		r.t.Errorf("%s: %v", body, err)
	}
	for i := range b.Events {
		r.apply(&b.Events[i])
	}
}

// verify verifies a signature as Standard Webhooks 1.0.0 has it.
func verify(h http.Header, body []byte) error {
	id, timestamp := h.Get("Webhook-Id"), h.Get("Webhook-Timestamp")
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(Secret, "whsec_"))
	if err != nil {
		return err
	}
	at, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || time.Since(time.Unix(at, 0)).Abs() > 5*time.Minute {
		return fmt.Errorf("timestamp %q", timestamp)
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", id, timestamp, body) // ignored: a hash has no error
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	if id == "" || !slices.Contains(strings.Fields(h.Get("Webhook-Signature")), want) {
		return fmt.Errorf("the signature %q of %s is not %q", h.Get("Webhook-Signature"), id, want)
	}
	return nil
}

// apply applies an event. The caller holds mu.
func (r *Receiver) apply(e *Event) {
	from := sender{e.Node, e.Partition}
	last := r.seen[from]
	switch {
	case e.Epoch < last.epoch, e.Epoch == last.epoch && e.Seq <= last.seq:
		return // it was seen
	case e.Epoch > last.epoch && e.Seq != 1, e.Epoch == last.epoch && e.Seq != last.seq+1:
		r.t.Errorf("after %v comes %+v", last, e)
	}
	r.seen[from] = place{e.Epoch, e.Seq}
	p := r.parts[e.Partition]
	if p == nil {
		p = &part{occupied: make(map[string]bool)}
		r.parts[e.Partition] = p
	}
	r.events = append(r.events, *e)
	if e.Type == "reset" && e.Epoch > p.epoch {
		p.epoch = e.Epoch
	}
	if e.Epoch != p.epoch {
		return // of a node that does not have the partition any more
	}
	switch e.Type {
	case "reset":
		p.occupied = make(map[string]bool)
	case "occupied":
		p.occupied[e.Channel] = true
	case "vacated":
		delete(p.occupied, e.Channel)
	case "resync":
		if e.Occupied != nil && e.Channel != "" {
			if delete(p.occupied, e.Channel); *e.Occupied {
				p.occupied[e.Channel] = true
			}
		}
	case "digest":
		if e.Page == 1 {
			p.page = make(map[string]bool)
		}
		for _, name := range e.Channels {
			p.page[name] = true
		}
		if e.Page == e.Pages && !maps.Equal(p.page, p.occupied) {
			r.t.Errorf("a digest has %v, and there are %v", p.page, p.occupied)
		}
	}
}

// Occupied returns the channels that are occupied, sorted.
func (r *Receiver) Occupied() (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.parts {
		all = slices.AppendSeq(all, maps.Keys(p.occupied))
	}
	slices.Sort(all)
	return all
}

// Events returns the events so far that a function selects.
func (r *Receiver) Events(selects func(*Event) bool) (list []Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.events {
		if selects(&r.events[i]) {
			list = append(list, r.events[i])
		}
	}
	return list
}

// Of returns the types of the events of a channel so far, in their order.
func (r *Receiver) Of(channel string) (types []string) {
	for _, e := range r.Events(func(e *Event) bool { return e.Channel == channel }) {
		types = append(types, e.Type)
	}
	return types
}

// WantOccupied waits until these channels are occupied, and no others.
func (r *Receiver) WantOccupied(why string, channels ...string) {
	r.t.Helper()
	slices.Sort(channels)
	r.wait(why, func() (bool, any) { got := r.Occupied(); return slices.Equal(got, channels), got })
}

// WantOf waits until the events of a channel have these types, in this order.
func (r *Receiver) WantOf(why, channel string, types ...string) {
	r.t.Helper()
	r.wait(why, func() (bool, any) { got := r.Of(channel); return slices.Equal(got, types), got })
}

// Wait waits for an event that a function selects, and returns the first one.
func (r *Receiver) Wait(why string, selects func(*Event) bool) (e Event) {
	r.t.Helper()
	r.wait(why, func() (bool, any) {
		got := r.Events(selects)
		if len(got) > 0 {
			e = got[0]
		}
		return len(got) > 0, got
	})
	return e
}

func (r *Receiver) wait(why string, holds func() (bool, any)) {
	r.t.Helper()
	end := time.Now().Add(Patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		ok, got := holds()
		if ok {
			return
		}
		if time.Now().After(end) {
			r.t.Fatalf("waited %v for %s; there is %v", Patience, why, got)
		}
		<-tick.C
	}
}
