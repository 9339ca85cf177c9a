package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
	"sluice/gateway/engine/nats/natstest"

	"github.com/google/go-cmp/cmp"
	natsserver "github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
)

func TestWhatIsComplete(t *testing.T) {
	t.Parallel()
	msgs := func(seqs ...uint64) (all []stored) {
		for _, seq := range seqs {
			all = append(all, stored{seq: seq})
		}
		return all
	}
	for name, test := range map[string]struct {
		msgs  []stored
		cut   uint64
		s     state
		floor uint64
		under uint64
		kept  []stored
	}{
		"nothing in a new stream":            {nil, 0, state{limit: 4}, 0, 0, nil},
		"nothing in a stream that has begun": {nil, 0, state{limit: 4, first: 1, last: 9}, 0, 0, nil},
		"nothing, and the front is gone":     {nil, 0, state{limit: 4, first: 7, last: 9}, 6, 0, nil},
		"nothing in an emptied stream":       {nil, 0, state{limit: 4, first: 10, last: 9}, 9, 0, nil},
		"full":                               {msgs(3, 5, 7, 9), 0, state{limit: 4, first: 1, last: 9}, 3, 3, msgs(5, 7, 9)},
		"full, and the front was raised":     {msgs(3, 5, 7, 9), 0, state{limit: 4, first: 1, last: 9, raised: 9}, 3, 3, msgs(5, 7, 9)},
		"not full":                           {msgs(5, 7, 9), 0, state{limit: 4, first: 1, last: 9}, 0, 0, msgs(5, 7, 9)},
		"not full, and the front is gone":    {msgs(5, 7, 9), 0, state{limit: 4, first: 5, last: 9}, 4, 0, msgs(5, 7, 9)},
		"a lower limit may have dropped":     {msgs(5, 7, 9), 0, state{limit: 4, first: 1, last: 9, raised: 5}, 4, 0, msgs(5, 7, 9)},
		"above a lower limit":                {msgs(5, 7, 9), 0, state{limit: 4, first: 1, last: 9, raised: 4}, 0, 0, msgs(5, 7, 9)},
		"while the limit is raised":          {msgs(5, 7, 9), 0, state{limit: 4, first: 1, last: 9, raised: raising}, 4, 0, msgs(5, 7, 9)},
		"read while others were dropped":     {msgs(1, 2, 7, 8, 9, 10), 0, state{limit: 4, first: 1, last: 10}, 7, 7, msgs(8, 9, 10)},
		"the front went while it was read":   {msgs(2, 5, 9), 0, state{limit: 4, first: 6, last: 9}, 5, 5, msgs(9)},
		"all of it went while it was read":   {msgs(2, 5), 0, state{limit: 4, first: 8, last: 9}, 7, 0, nil},
		"more than a reading has":            {msgs(5, 7, 9), 4, state{limit: 9, first: 1, last: 9}, 4, 0, msgs(5, 7, 9)},
		"no limit":                           {msgs(5, 7, 9), 0, state{first: 2, last: 9}, 1, 0, msgs(5, 7, 9)},
		"history of one":                     {msgs(5, 7), 0, state{limit: 2, first: 1, last: 9}, 5, 5, msgs(7)},
	} {
		floor, under, kept := keptOf(test.msgs, test.cut, test.s)
		if diff := cmp.Diff(fmt.Sprint(test.kept), fmt.Sprint(kept)); diff != "" || floor != test.floor || under.seq != test.under {
			t.Errorf("%s: floor %d, under %d, want %d, %d (-want +got):\n%s", name, floor, under.seq, test.floor, test.under, diff)
		}
	}
}

func TestAnswersThatAreNotComplete(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		direct  [][]string
		heads   []uint64
		created []int64
		want    string // of three messages 5, 7, 9
		err     error
		asked   int
	}{
		"complete":                       {direct: [][]string{{"5 last=0 pending=2", "7 last=5 pending=1", head9, "end last=9 pending=0"}}, heads: []uint64{9}, want: "[5:m5 7:m7 9:m9]", asked: 1},
		"in two batches":                 {direct: [][]string{{"5 last=0 pending=2", "end last=5 pending=2"}, {"7 last=0 pending=1", head9, "end last=9 pending=0"}}, heads: []uint64{9}, want: "[5:m5 7:m7 9:m9]", asked: 2},
		"the rest is gone":               {direct: [][]string{{"9 last=0 pending=1", "end last=9 pending=1"}, {"404"}}, heads: []uint64{9}, want: "[9:m9]", asked: 2},
		"a replica is behind":            {direct: [][]string{{"5 last=0 pending=0", "end last=5 pending=0"}, {"404"}, {"5 last=0 pending=2", "7 last=5 pending=1", head9, "end last=9 pending=0"}}, heads: []uint64{9}, want: "[5:m5 7:m7 9:m9]", asked: 3},
		"an empty one is behind":         {direct: [][]string{{"404"}, {head2(9), "end last=9 pending=0"}}, heads: []uint64{9}, want: "[9:m9]", asked: 2},
		"it is stored meanwhile":         {direct: [][]string{{"404"}, {head2(9), "end last=9 pending=0"}}, heads: []uint64{0, 9}, want: "[9:m9]", asked: 2},
		"a server without batches":       {direct: [][]string{{"old 5"}, {"old 7"}, {"old 9"}, {"404"}}, heads: []uint64{9}, want: "[5:m5 7:m7 9:m9]", asked: 4},
		"servers of both kinds":          {direct: [][]string{{"old 5"}, {"7 last=0 pending=1", head9, "end last=9 pending=0"}}, heads: []uint64{9}, want: "[5:m5 7:m7 9:m9]", asked: 2},
		"a message is missing":           {direct: [][]string{{"5 last=0 pending=2", head9, "end last=9 pending=0"}}, heads: []uint64{9}, err: errShort, asked: 1},
		"the last one is missing":        {direct: [][]string{{"5 last=0 pending=1", "end last=9 pending=0"}}, heads: []uint64{5}, err: errShort, asked: 1},
		"the first one is missing":       {direct: [][]string{{head9, "end last=9 pending=0"}}, heads: []uint64{9}, err: errShort, asked: 1},
		"no end":                         {direct: [][]string{{"5 last=0 pending=2", "7 last=5 pending=1", "late"}, {"late"}}, heads: []uint64{9}, err: errLate, asked: 1 + lateTries},
		"no end, and the rest":           {direct: [][]string{{"5 last=0 pending=2", "7 last=5 pending=1", "late"}, {head2(9), "end last=9 pending=0"}}, heads: []uint64{9}, want: "[5:m5 7:m7 9:m9]", asked: 2},
		"a replica hangs":                {direct: [][]string{{"late"}, {head2(9), "end last=9 pending=0"}}, heads: []uint64{9}, want: "[9:m9]", asked: 2},
		"no answer":                      {direct: [][]string{{}}, heads: []uint64{9}, err: errLate, asked: 1 + lateTries},
		"the store is broken":            {direct: [][]string{{"500"}}, heads: []uint64{9}, err: errAny, asked: 1},
		"the stream was made anew":       {direct: [][]string{{head2(5), "end last=5 pending=0"}, {head2(9), "end last=9 pending=0"}}, heads: []uint64{5, 9}, created: []int64{1, 2}, want: "[9:m9]", asked: 2},
		"a replica stays behind forever": {direct: [][]string{{"404"}}, heads: []uint64{9}, err: errShort, asked: shortTries},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			if len(test.direct[0]) == 0 {
				f.st.link.test.patience = 20 * time.Millisecond // nothing comes, however long it is waited for
			}
			f.mu.Lock()
			for _, lines := range test.direct {
				f.direct = append(f.direct, f.lines(lines...))
			}
			f.heads = test.heads
			if test.created != nil {
				f.created = nil
				for _, s := range test.created[1:] {
					f.created = append(f.created, time.Unix(s, 0))
				}
			}
			f.mu.Unlock()
			r, err := f.st.read(testContext(t), "a", 0)
			switch {
			case test.err == errAny:
				if err == nil || errors.Is(err, errShort) {
					t.Errorf("got %s, %v", r.texts(), err)
				}
			case test.err != nil:
				if !errors.Is(err, test.err) || !errors.Is(err, engine.ErrUnavailable) {
					t.Errorf("got %s, %v, want %v", r.texts(), err, test.err)
				}
			case err != nil || r.texts() != test.want:
				t.Errorf("got %s, %v, want %s", r.texts(), err, test.want)
			}
			f.wantAsked(test.asked)
		})
	}
}

var errAny = errors.New("any error")

// Above a message that is still there nothing else is read. If it is not, what comes says whether something
// is missing, unless a lower limit may have dropped that.
func TestReadingAboveAMessage(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		direct [][]string
		head   uint64
		raised uint64
		floor  uint64
		want   string
		asked  int
	}{
		"it is there":               {[][]string{{"5 last=0 pending=1", "9 last=5 pending=0", "end last=9 pending=0"}}, 9, 9, 5, "[9:m9]", 1},
		"it is the newest":          {[][]string{{head2(5), "end last=5 pending=0"}}, 5, 0, 5, "[]", 1},
		"it never was there":        {[][]string{{head2(9), "end last=9 pending=0"}}, 9, 0, 0, "[9:m9]", 1},
		"with a lower limit before": {[][]string{{head2(9), "end last=9 pending=0"}, {"4 last=0 pending=1", "9 last=4 pending=0", "end last=9 pending=0"}}, 9, 9, 3, "[9:m9]", 2},
		"or all of it":              {[][]string{{head2(9), "end last=9 pending=0"}, {head2(9), "end last=9 pending=0"}}, 9, 9, 8, "[9:m9]", 2},
		"the oldest are gone":       {[][]string{{"6 last=0 pending=3", "7 last=6 pending=2", "8 last=7 pending=1", "9 last=8 pending=0", "end last=9 pending=0"}}, 9, 0, 6, "[7:m7 8:m8 9:m9]", 1},
		"more than are kept":        {[][]string{{"5 last=0 pending=4", "6 last=5 pending=3", "7 last=6 pending=2", "8 last=7 pending=1", "9 last=8 pending=0", "end last=9 pending=0"}}, 9, 0, 6, "[7:m7 8:m8 9:m9]", 1},
		"nothing but older":         {[][]string{{"404"}}, 4, 0, 0, "[]", 1},
		"nothing was ever":          {[][]string{{"404"}}, 0, 0, 0, "[]", 1},
		"a replica is behind":       {[][]string{{head2(5), "end last=5 pending=0"}, {"5 last=0 pending=1", "9 last=5 pending=0", "end last=9 pending=0"}}, 9, 0, 5, "[9:m9]", 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.mu.Lock()
			for _, lines := range test.direct {
				f.direct = append(f.direct, f.lines(lines...))
			}
			f.heads, f.raised = []uint64{test.head}, test.raised
			f.mu.Unlock()
			r, err := f.st.read(testContext(t), "a", 5)
			if err != nil || r.texts() != test.want || r.floor != test.floor || r.none != (test.head == 0) || test.head > 0 && r.head != test.head {
				t.Errorf("got %s, floor %d, head %d, none %v, %v; want %s, %d", r.texts(), r.floor, r.head, r.none, err, test.want, test.floor)
			}
			f.wantAsked(test.asked)
		})
	}
}

// A reading holds so many bytes: the oldest are a gap.
func TestReadingsAreBounded(t *testing.T) {
	t.Parallel()
	c := testConfig(histories(100, ""))
	c.readBytes = 10_000
	r := testStore(t, c, natstest.Start(t, natstest.Options{JetStream: true}).URL())
	for i := range 20 {
		r.store("a", strings.Repeat(fmt.Sprint(i%10), 1000))
	}
	got := r.read("a", 0)
	if len(got.msgs) != 10 || got.msgs[0].seq != 11 || got.floor != 10 || got.head != 20 {
		t.Errorf("%d messages, floor %d, head %d", len(got.msgs), got.floor, got.head)
	}
}

// Every call ends with its context, whatever the server does.
func TestCallsEndWithTheirContext(t *testing.T) {
	t.Parallel()
	child := natstest.StartChild(t)
	r := testStore(t, testConfig(histories(3, "")), child.URL())
	st := r.of("a")
	child.Suspend()
	defer child.Resume()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	for name, call := range map[string]func() error{
		"state": func() error { _, err := st.state(ctx); return err },
		"read":  func() error { _, err := st.read(ctx, "a", 0); return err },
		"heads": func() error { _, err := st.heads(ctx, []string{"a"}); return err },
		"purge": func() error { return st.purge(ctx, "a", 1) },
		"open":  func() error { _, err := openStreams(ctx, r.link, testConfig(histories(3, ""))); return err },
	} {
		clienttest.WaitFor(t, name+" to end with its context", func() bool { // not once in a while, on a busy machine
			begun := time.Now()
			if err := call(); !errors.Is(err, errAway) || !errors.Is(err, engine.ErrUnavailable) {
				t.Errorf("%s: %v", name, err)
			}
			return time.Since(begun) < answerTimeout/2
		})
	}
}

func TestAStreamThatIsGone(t *testing.T) {
	t.Parallel()
	r := testStore(t, testConfig(histories(3, "")), natstest.Start(t, natstest.Options{JetStream: true}).URL())
	st := r.of("a")
	before := st.epoch()
	if err := r.js.DeleteStream(st.name); err != nil {
		t.Fatal(err)
	}
	_, readErr := st.read(testContext(t), "a", 0)
	_, stateErr := st.state(testContext(t))
	_, headsErr := st.heads(testContext(t), []string{"a"})
	for _, err := range []error{readErr, stateErr, headsErr, st.purge(testContext(t), "a", 1)} {
		if !errors.Is(err, errAway) {
			t.Errorf("got %v", err)
		}
	}
	r.reopen(testConfig(histories(3, "")))
	if _, err := st.state(testContext(t)); err != nil || st.epoch() == before {
		t.Errorf("made anew: epoch %v after %v, %v", st.epoch(), before, err)
	}
}

func TestMessagesOfTheLargestSize(t *testing.T) {
	t.Parallel()
	const size = 1<<20 - payloadOverhead
	s := natstest.Start(t, natstest.Options{JetStream: true, Tune: func(o *natsserver.Options) { o.MaxPayload = 1 << 20 }})
	l, err := dial(testContext(t), Servers{URLs: []string{s.URL()}}, nil, size, linkEvents{}, testLog)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	c := testConfig(histories(3, ""))
	c.maxMessage = size
	all, err := openStreams(testContext(t), l, c)
	if err != nil {
		t.Fatal(err)
	}
	js, err := l.main.JetStream(natsgo.MaxWait(clienttest.Patience))
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t, l, all, js}
	text := string(appendMessage(nil, &message{Publication: channel.Publication{Payload: []byte(strings.Repeat("x", size)), Extra: make([]byte, 15<<10)}}))
	for range 4 {
		r.store("a", text)
	}
	if got := r.read("a", 0); len(got.msgs) != 3 || string(got.msgs[2].data) != text || got.floor != 1 {
		t.Errorf("read %d messages, floor %d", len(got.msgs), got.floor)
	}
	heads, err := r.of("a").heads(testContext(t), []string{"a", "b"})
	if err != nil || string(heads[0].msg) != text || heads[1].found {
		t.Errorf("heads: %v", err)
	}
}

// What is published while a channel is read is read in one piece, or is missing in front and known to be.
func TestReadingWhileOthersPublish(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T) string{
		"in process": func(t *testing.T) string { return natstest.Start(t, natstest.Options{JetStream: true}).URL() },
		"cluster":    func(t *testing.T) string { return natstest.StartCluster(t, 3, natstest.Options{JetStream: true}).URL() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := testStore(t, testConfig(histories(3, "")), start(t))
			const n = 400
			var publishing sync.WaitGroup
			publishing.Go(func() {
				for i := range n {
					if _, err := r.js.Publish(r.of("a").subject("a"), []byte(fmt.Sprint(i))); err != nil {
						t.Error(err)
					}
				}
			})
			expect := 0 // what a client that reads again and again has not seen yet
			at := uint64(0)
			for expect < n && !t.Failed() {
				got := r.read("a", at)
				for i, m := range got.msgs {
					var number int
					if _, err := fmt.Sscan(string(m.data), &number); err != nil {
						t.Fatal(err)
					}
					if number < expect || number > expect && (i > 0 || got.floor <= at) {
						t.Fatalf("above %d, floor %d: %d comes where %d is next: %s", at, got.floor, number, expect, got.texts())
					}
					expect, at = number+1, m.seq
				}
			}
			publishing.Wait()
		})
	}
}

// A reading that takes longer than a worker has for a job goes on where it was.
func TestLongReadings(t *testing.T) {
	t.Parallel()
	const size = 20 * batchMessages
	srv := natstest.Start(t, natstest.Options{JetStream: true})
	n := startClusterWith(t, 1, func(c *Config) {
		c.Histories = []HistoryOf{{Namespace: "kept", Size: size, TTL: time.Hour, Durable: true}}
	}, srv.URL()).nodes[0]
	e, s := n.Engine.(*Engine), newSender(t, n)
	for range size {
		clienttest.WaitFor(t, "room in the queue", func() bool { return errors.Is(s.sends("x", "a"), engine.ErrPending) })
	}
	for range size {
		if a := clienttest.Receive(t, "the answer", s.answers); a.err != nil {
			t.Fatal(a.err)
		}
	}
	st := e.stream("x")
	asked := make(chan uint64, size)
	nc := srv.Connect(t)
	_, err := nc.Subscribe("$JS.API.DIRECT.GET."+st.name, func(m *natsgo.Msg) {
		var q directGet
		if err := json.Unmarshal(m.Data, &q); err != nil {
			t.Error(err)
		}
		asked <- q.Seq
	})
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	read := make(chan int, 1)
	go e.readOn(ctx, st.attempt("x", 0), func(got reading, err error) {
		if err != nil {
			t.Error(err)
		}
		read <- len(got.msgs)
	})
	last, begun := uint64(0), 0
	for got := -1; got < 0; {
		select {
		case got = <-read:
			if got != size {
				t.Errorf("%d messages, want %d", got, size)
			}
		case seq := <-asked:
			if seq == 1 {
				begun++
			}
			if last = max(last, seq); last > batchMessages {
				cancel() // the worker's time is over
			}
		}
	}
	if begun > 1 {
		t.Errorf("it was begun %d times", begun)
	}
}
