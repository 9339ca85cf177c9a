package event

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// inbox is a receiver that keeps what it accepts, as lines such as "occupied news".
type inbox struct {
	mu   sync.Mutex
	list []Event
	fail error
}

func (r *inbox) Deliver(_ context.Context, b *Batch) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail == nil {
		r.list = append(r.list, b.Events...)
	}
	return r.fail
}

func (r *inbox) answer(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = err
}

// take returns what has come since the last call, without resets.
func (r *inbox) take() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := slices.DeleteFunc(r.list, func(e Event) bool { return e.Type == Reset })
	r.list = nil
	return list
}

func lines(list []Event) string {
	var b strings.Builder
	for _, e := range list {
		b.WriteString(e.Type.String() + " " + e.Channel + "\n")
	}
	return b.String()
}

// want waits for a time, and checks what has come in it.
func (r *inbox) want(t *testing.T, d time.Duration, want ...string) {
	t.Helper()
	time.Sleep(d)
	synctest.Wait()
	got := strings.Split(strings.TrimSuffix(lines(r.take()), "\n"), "\n")
	if len(want) == 0 {
		want = []string{""}
	}
	slices.Sort(got) // partitions have no order
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// begin returns a notifier with a receiver, which has had its resets.
func begin(t *testing.T, cfg Config, o Options) (*Notifier, *inbox) {
	n, r := New(cfg), new(inbox)
	n.Add(o, r)
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		n.Close(ctx) // ignored: a test that needs the error closes it
	})
	r.want(t, time.Second)
	return n, r
}

func TestChannelsAreOccupiedAtOnceAndVacatedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, r := begin(t, Config{}, Options{})
		n.Join("news")
		r.want(t, 100*time.Millisecond, "occupied news")
		n.Join("news")
		n.Leave("news")
		r.want(t, time.Minute)
		n.Leave("news")
		r.want(t, 4*time.Second)
		n.Join("news") // in time
		r.want(t, time.Minute)
		n.Leave("news")
		r.want(t, 5100*time.Millisecond, "vacated news")
		n.Join("news")
		r.want(t, 100*time.Millisecond, "occupied news")
	})
}

func TestWithoutADelayChannelsAreVacatedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, r := begin(t, Config{VacatedDelay: -1}, Options{})
		n.Join("news")
		n.Leave("news")
		r.want(t, 100*time.Millisecond, "occupied news", "vacated news")
	})
}

func TestReceiversGetWhatTheyHaveSelected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, r := begin(t, Config{}, Options{Filter: Filter{Types: 1<<Occupied | 1<<Disconnected, Channels: []string{"room:*", "news"}}})
		if !n.Wants(Disconnected) || n.Wants(Publication) {
			t.Error("Wants")
		}
		for _, channel := range []string{"room:1", "news", "chat", "room"} {
			n.Join(channel)
		}
		n.Emit(Event{Type: Connected, Client: "c1"})
		n.Emit(Event{Type: Disconnected, Client: "c1", User: "u7", Code: 3000, Reason: "gone"})
		r.want(t, time.Second, "occupied room:1", "occupied news", "disconnected ")
		n.Leave("news")
		r.want(t, time.Minute)
	})
}

// A receiver that fails gets the same batch again, and what comes meanwhile after it.
func TestBatchesAreSentAgainUntilTheyAreAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type call struct{ id, events, body string }
		var mu sync.Mutex
		var calls []call
		var fail error
		n := New(Config{})
		defer n.Close(t.Context())
		n.Add(Options{Filter: Filter{Types: Levels | 1<<Publication}}, receiver(func(_ context.Context, b *Batch) error {
			mu.Lock()
			defer mu.Unlock()
			calls = append(calls, call{b.ID, lines(b.Events), string(b.Body())})
			return fail
		}))
		time.Sleep(time.Second)
		mu.Lock()
		calls, fail = nil, errors.New("down")
		mu.Unlock()
		n.Join("news")
		time.Sleep(time.Second)
		for range 150 {
			n.Emit(Event{Type: Publication, Channel: "news", Bytes: []byte(`{"a":1}`)})
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		mu.Lock()
		if len(calls) < 100 || len(calls) > 2000 {
			t.Errorf("%d attempts in an hour", len(calls))
		}
		for _, c := range calls {
			if c != calls[0] || c.events != "occupied news\n" {
				t.Fatalf("%v", c)
			}
		}
		calls, fail = nil, nil
		mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		var sizes []int
		for _, c := range calls {
			sizes = append(sizes, strings.Count(c.events, "\n"))
		}
		if diff := cmp.Diff([]int{1, 100, 50}, sizes); diff != "" {
			t.Error(diff)
		}
	})
}

type receiver func(ctx context.Context, b *Batch) error

func (f receiver) Deliver(ctx context.Context, b *Batch) error { return f(ctx, b) }

// A receiver that asks for time, or is gone, has its way.
func TestReceiversThatAskForTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, r := begin(t, Config{}, Options{})
		r.answer(&Later{After: 10 * time.Minute, Err: errors.New("busy")})
		n.Join("news")
		r.want(t, time.Second)
		r.answer(nil)
		n.Join("chat")
		r.want(t, 9*time.Minute)
		r.want(t, time.Minute, "occupied news", "occupied chat")
	})
	synctest.Test(t, func(t *testing.T) {
		n := New(Config{})
		var calls int
		q := n.Add(Options{InFlight: 1}, receiver(func(context.Context, *Batch) error {
			calls++
			return ErrGone
		}))
		n.Join("news")
		time.Sleep(time.Hour)
		n.Join("chat")
		time.Sleep(time.Hour)
		synctest.Wait()
		if s := q.Stats(); calls != 1 || !s.Gone || s.Bytes != 0 || s.Events != 0 {
			t.Errorf("%d calls, %+v", calls, s)
		}
		if err := n.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// When a receiver accepts something again, it gets everything else at once.
func TestReceiversThatAreBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, r := begin(t, Config{}, Options{Backoff: 24 * time.Hour, BackoffMax: 24 * time.Hour})
		r.answer(errors.New("down"))
		for _, channel := range []string{"a", "b", "c", "d", "e", "f"} {
			n.Join(channel)
		}
		r.want(t, time.Minute)
		r.answer(nil)
		n.Join("g")
		r.want(t, time.Minute, "occupied a", "occupied b", "occupied c", "occupied d", "occupied e", "occupied f", "occupied g")
	})
}

// A receiver that panics, or ends its goroutine, has failed.
func TestReceiversThatBreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, r := begin(t, Config{}, Options{})
		var calls int
		q := n.Add(Options{InFlight: 1}, receiver(func(context.Context, *Batch) error {
			calls++
			panic("no")
		}))
		n.Join("news")
		r.want(t, time.Minute, "occupied news")
		if s := q.Stats(); s.Failures < 3 || s.Delivered > 0 {
			t.Errorf("%+v", s)
		}
	})
}

// Close sends what waits, and says what is left.
func TestCloseSendsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, r := begin(t, Config{}, Options{Name: "backend", Linger: time.Minute})
		n.Join("news")
		if err := n.Close(t.Context()); err != nil {
			t.Error(err)
		}
		r.want(t, 0, "occupied news")
	})
	synctest.Test(t, func(t *testing.T) {
		n, r := begin(t, Config{}, Options{Name: "backend"})
		r.answer(errors.New("down"))
		n.Join("news")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		unsent, ok := errors.AsType[*Unsent](n.Close(ctx))
		if !ok || *unsent != (Unsent{"backend", 1}) {
			t.Errorf("%v", unsent)
		}
	})
}

// Clients that move raise no event.
func TestClientsThatMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, r := begin(t, Config{}, Options{})
		n.Join("news")
		n.Join("chat")
		r.want(t, time.Second, "occupied news", "occupied chat")
		n.Hold()
		time.Sleep(time.Second)
		n.Leave("news")
		n.Leave("chat")
		r.want(t, time.Hour)
		n.Join("news")
		time.Sleep(time.Second)
		n.Settle()
		r.want(t, time.Minute, "vacated chat")
	})
}

// A receiver that is added later begins with the channels that are occupied.
func TestLaterReceiversBeginWithAReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, r := begin(t, Config{Node: "n1"}, Options{})
		n.Join("news")
		r.want(t, time.Second, "occupied news")
		later := new(inbox)
		q := n.Add(Options{}, later)
		time.Sleep(time.Second)
		synctest.Wait()
		later.mu.Lock()
		resets := 0
		for i, e := range later.list {
			switch {
			case e.Type == Reset:
				resets++
				if e.Seq != 1 || e.Partitions != Partitions {
					t.Errorf("%+v", e)
				}
			case e.Type == Occupied && e.Channel == "news" && e.Seq == 2 && later.list[i-1].Partition == e.Partition && later.list[i-1].Count == 1:
			default:
				t.Errorf("%+v", e)
			}
		}
		if resets != Partitions || len(later.list) != Partitions+1 {
			t.Errorf("%d resets, %d events", resets, len(later.list))
		}
		later.mu.Unlock()
		n.Remove(q)
		n.Join("chat")
		r.want(t, time.Second, "occupied chat")
	})
}
