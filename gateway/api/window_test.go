package api

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// modelWindow keeps a list of all it was ever told, and looks through it.
type modelWindow struct {
	keep time.Duration
	max  int
	list []modelResult // in the order of until
	busy map[int]bool
}

type modelResult struct {
	key    int
	result PublishResult
	until  time.Time
}

func (m *modelWindow) live(now time.Time) {
	for len(m.list) > 0 && !m.list[0].until.After(now) {
		m.list = m.list[1:]
	}
}

func (m *modelWindow) begin(key int, now time.Time) (result PublishResult, wait, known bool) {
	m.live(now)
	for _, r := range m.list {
		if r.key == key {
			return r.result, false, true
		}
	}
	wait = m.busy[key]
	m.busy[key] = true
	return PublishResult{}, wait, false
}

func (m *modelWindow) finish(key int, now time.Time, result PublishResult, ok bool) {
	delete(m.busy, key)
	m.live(now)
	if !ok {
		return
	}
	if len(m.list) == m.max {
		m.list = m.list[1:]
	}
	m.list = append(m.list, modelResult{key, result, now.Add(m.keep)})
}

// driveWindow compares the window with the model in what each byte says: which key comes or is
// done, and how much time passes.
func driveWindow(t *testing.T, max int, ops []byte) {
	const keys = 32
	keep := 100 * time.Millisecond
	now := time.Unix(1_000_000, 0)
	w, m := newWindow(keep, max), &modelWindow{keep: keep, max: max, busy: make(map[int]bool)}
	digests := make([]digest, keys)
	for i := range digests {
		digests[i] = digestOf("channel", fmt.Sprint(i))
	}
	for i, op := range ops {
		key := int(op) % keys
		switch op / keys {
		case 0:
			now = now.Add(time.Duration(key*key) * time.Millisecond / 8)
		case 1, 2, 3: // it is done
			if m.busy[key] {
				result, ok := PublishResult{Offset: uint64(i)}, op/keys != 1
				w.finish(digests[key], now, result, ok)
				m.finish(key, now, result, ok)
			}
		default:
			got, other, known := w.begin(digests[key], now)
			want, wait, wantKnown := m.begin(key, now)
			if got != want || known != wantKnown || (other != nil) != wait {
				t.Fatalf("step %d: key %d: %v, known %t, wait %t; want %v, %t, %t", i, key, got, known, other != nil, want, wantKnown, wait)
			}
		}
		if len(w.results) > max || len(w.results) != len(w.order)-w.head || len(w.order) > 2*max+1 || len(w.flights) != len(m.busy) {
			t.Fatalf("step %d: %d results, %d in order from %d, %d flights; the model has %d and %d",
				i, len(w.results), len(w.order), w.head, len(w.flights), len(m.list), len(m.busy))
		}
	}
}

func TestWindowDoesWhatTheModelDoes(t *testing.T) {
	for i, max := range []int{1, 2, 7, 100} {
		random := rand.New(rand.NewPCG(5, uint64(i)))
		ops := make([]byte, 20_000)
		for i := range ops {
			ops[i] = byte(random.Uint32())
		}
		driveWindow(t, max, ops)
	}
}

func FuzzWindow(f *testing.F) {
	f.Add(uint8(2), []byte{200, 70, 201, 71, 202, 72, 31, 200})
	f.Fuzz(func(t *testing.T, max uint8, ops []byte) { driveWindow(t, int(max)+1, ops) })
}

func TestTheSameKeyPublishesOnce(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	node := &fake{}
	h := New(node, Options{Now: func() time.Time { return now }})
	publish := func(channel, key string) string {
		_, got, _ := ask(h, "publish", fmt.Sprintf(`{"channel":%q,"data":1,"idempotency_key":%q}`, channel, key))
		return got
	}
	first := publish("a", "k")
	for _, tt := range []struct {
		channel, key string
		again        bool
	}{{"a", "k", true}, {"b", "k", false}, {"a", "l", false}, {"ak", "", false}, {"ak", "", false}, {"kk", "l", false}, {"k", "kl", false}} {
		calls := len(node.calls)
		got := publish(tt.channel, tt.key)
		if published := len(node.calls) > calls; published == tt.again || (got == first) != tt.again {
			t.Errorf("%s, %s: published %t, %s", tt.channel, tt.key, published, got)
		}
	}
	calls := len(node.calls)
	_, got, _ := ask(h, "broadcast", `{"channels":["a","c","c"],"data":2,"idempotency_key":"k"}`)
	if len(node.calls) != calls+1 || !strings.HasPrefix(got, `{"result":{"responses":[`+first+`,`) {
		t.Errorf("broadcast: %d calls, %s", len(node.calls)-calls, got)
	}
	now = now.Add(5*time.Minute - 1)
	if got := publish("a", "k"); got != first {
		t.Errorf("at the window's end: %s", got)
	}
	now = now.Add(1)
	if got := publish("a", "k"); got == first {
		t.Error("after the window it was not published again")
	}
}

func TestFailuresAreNotRemembered(t *testing.T) {
	node := &fake{err: ErrTooManyRequests}
	h := New(node, Options{})
	body := `{"channel":"a","data":1,"idempotency_key":"k"}`
	if _, got, _ := ask(h, "publish", body); !strings.Contains(got, `"code":111`) {
		t.Error(got)
	}
	node.err = nil
	if _, got, _ := ask(h, "publish", body); !strings.Contains(got, `"offset":1`) {
		t.Error(got)
	}
}

func TestTheOldestKeyIsForgottenForANewOne(t *testing.T) {
	node := &fake{}
	h := New(node, Options{IdempotencyKeys: 2})
	for _, i := range []int{0, 1, 2, 1, 0} {
		ask(h, "publish", fmt.Sprintf(`{"channel":"a","data":1,"idempotency_key":"k%d"}`, i))
	}
	if n := len(node.calls); n != 4 {
		t.Errorf("%d were published, want 4", n)
	}
}

func TestWithoutAWindowKeysAreRefused(t *testing.T) {
	node := &fake{}
	h := New(node, Options{IdempotencyWindow: -1})
	want := `{"error":{"code":108,"message":"idempotency_key is not supported: this server does not store idempotency keys"}}`
	if _, got, _ := ask(h, "publish", `{"channel":"a","data":1,"idempotency_key":"k"}`); got != want || len(node.calls) > 0 {
		t.Errorf("%s, calls %v", got, node.calls)
	}
	if ask(h, "publish", `{"channel":"a","data":1}`); len(node.calls) != 1 {
		t.Errorf("calls %v", node.calls)
	}
}

func TestConcurrentDuplicatesWaitForTheFirst(t *testing.T) {
	for _, fails := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) { duplicates(t, fails) })
	}
}

func duplicates(t *testing.T, fails bool) {
	w := newWindow(time.Minute, 1)
	d := digestOf("a", "k")
	release := make(chan struct{})
	var published atomic.Int64
	publish := func() (PublishResult, error) {
		n := published.Add(1)
		if n == 1 {
			<-release
			if fails {
				return PublishResult{}, errors.New("no")
			}
		}
		return PublishResult{Offset: uint64(n)}, nil
	}
	var firstErr error
	results := make([]PublishResult, 8)
	var all sync.WaitGroup
	all.Go(func() { _, firstErr = w.do(t.Context(), d, time.Now, publish) })
	synctest.Wait() // until it is publishing
	for i := range results {
		all.Go(func() {
			var err error
			if results[i], err = w.do(t.Context(), d, time.Now, publish); err != nil {
				t.Error(err)
			}
		})
	}
	synctest.Wait() // until all others wait for it
	if published.Load() != 1 {
		t.Errorf("first fails %t: %d published before it was done", fails, published.Load())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.do(ctx, d, time.Now, publish); !errors.Is(err, context.Canceled) {
		t.Errorf("one that gives up waiting: %v", err)
	}
	close(release)
	all.Wait()
	want := uint64(1)
	if fails {
		want = 2
	}
	if (firstErr != nil) != fails || uint64(published.Load()) != want {
		t.Errorf("first fails %t: its error %v, %d published, want %d", fails, firstErr, published.Load(), want)
	}
	for i, r := range results {
		if r.Offset != want {
			t.Errorf("first fails %t: caller %d got offset %d, want %d", fails, i, r.Offset, want)
		}
	}
}
