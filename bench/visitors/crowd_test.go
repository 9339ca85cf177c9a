package visitors

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/google/go-cmp/cmp"

	"sluice/bench/record"
	"sluice/bench/wsclient"
)

// ledgerRig is a crowd without connections, at a time of the test's.
type ledgerRig struct {
	*crowd
	now time.Time
	out writer
}

func newLedgerRig(n int) *ledgerRig {
	r := &ledgerRig{now: time.UnixMilli(1_000_000)}
	r.crowd = newCrowd(&Request{Count: n}, func() time.Time { return r.now }, usual, func(error) {})
	r.out = writer{crowd: r.crowd}
	for _, v := range r.visitors {
		r.opened(v, new(wsclient.Conn))
		r.received(v, &record.Record{Kind: record.Position, Epoch: "e"}, r.now)
	}
	return r
}

// send delivers a publication to some visitors.
func (r *ledgerRig) send(offset, prev uint64, to ...int) {
	for _, i := range to {
		r.received(r.visitors[i], &record.Record{Kind: record.Publication, Epoch: "e", Offset: offset, Prev: prev, At: uint64(r.now.UnixMilli())}, r.now)
	}
}

func TestWhatDoesNotComeIsLostInTheEnd(t *testing.T) {
	r := newLedgerRig(3)
	r.now = r.now.Add(usual.overdue + time.Second)
	r.send(1, 0, 0, 1)
	r.send(2, 1, 0, 1) // visitor 2 has none of both
	if got := r.out.count(r.now).Lost; got != 0 {
		t.Errorf("%d are lost at once", got)
	}
	if got := r.out.count(r.now.Add(usual.overdue + time.Millisecond)).Lost; got != 2 {
		t.Errorf("%d are lost in the end, want 2", got)
	}
	r.send(1, 0, 2)
	r.send(2, 1, 2)
	if got := r.out.count(r.now.Add(usual.overdue + time.Millisecond)).Lost; got != 0 {
		t.Errorf("%d are lost although they have come", got)
	}
}

func TestLossesAreCountedByWhatOthersHaveReceived(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(r *ledgerRig)
		want counts
	}{
		{"holes in offsets are no losses", func(r *ledgerRig) { r.send(10, 0, 0, 1); r.send(20, 10, 0, 1) }, counts{received: 4}},
		{"prev shows a loss", func(r *ledgerRig) { r.send(10, 0, 0); r.send(20, 10, 0); r.send(30, 20, 0, 1) }, counts{received: 4, lost: 2}},
		{"at least one", func(r *ledgerRig) { r.send(10, 0, 0, 1); r.send(30, 20, 0, 1) }, counts{received: 4, lost: 2}},
		{"a repeat", func(r *ledgerRig) { r.send(10, 0, 0, 0) }, counts{received: 2, repeated: 1}},
		{"an older one", func(r *ledgerRig) { r.send(10, 0, 0); r.send(20, 10, 0); r.send(10, 0, 0) }, counts{received: 3, repeated: 1}},
		{"a gap", func(r *ledgerRig) {
			r.send(10, 0, 0)
			r.send(20, 10, 0)
			r.received(r.visitors[1], &record.Record{Kind: record.Gap, Epoch: "e", Offset: 20}, r.now)
			r.send(30, 20, 0, 1)
		}, counts{received: 4, lost: 2}},
		{"a gap of what nobody has received", func(r *ledgerRig) {
			r.received(r.visitors[1], &record.Record{Kind: record.Gap, Epoch: "e", Offset: 20}, r.now)
		}, counts{lost: 1}},
		{"a position that is ahead, without a gap", func(r *ledgerRig) {
			r.send(10, 0, 0)
			r.send(20, 10, 0)
			r.received(r.visitors[1], &record.Record{Kind: record.Position, Epoch: "e", Offset: 20}, r.now)
			r.send(30, 20, 0, 1)
		}, counts{received: 4, lost: 2}},
		{"a position of another epoch, without a gap", func(r *ledgerRig) {
			r.received(r.visitors[0], &record.Record{Kind: record.Position, Epoch: "f"}, r.now)
		}, counts{lost: 1}},
		{"a repeat behind a position that is too low", func(r *ledgerRig) {
			r.send(10, 0, 0)
			r.received(r.visitors[0], &record.Record{Kind: record.Position, Epoch: "e"}, r.now)
			r.send(10, 0, 0)
		}, counts{received: 2, repeated: 1}},
		{"another epoch without a gap", func(r *ledgerRig) {
			r.received(r.visitors[0], &record.Record{Kind: record.Publication, Epoch: "f", Offset: 1}, r.now)
		}, counts{received: 1, lost: 1}},
		{"without a position", func(r *ledgerRig) {
			r.received(r.visitors[0], &record.Record{Kind: record.Publication}, r.now)
			r.send(10, 0, 0)
		}, counts{received: 2}},
	} {
		r := newLedgerRig(2)
		test.do(r)
		r.settle(r.now)
		if r.counts.lost > 0 {
			t.Errorf("%s: counted at once", test.name)
		}
		r.settle(r.now.Add(1))
		if diff := cmp.Diff(test.want, r.counts, cmp.AllowUnexported(counts{})); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}

func TestThoseWhoDoNotComeBackHaveLostWhatTheyMissed(t *testing.T) {
	r := newLedgerRig(3)
	c := &cut{at: r.now, size: 2, away: 2}
	r.cuts = append(r.cuts, c)
	for _, v := range r.visitors[1:] {
		v.cut = c
		r.closed(v)
	}
	r.send(1, 0, 0)
	r.send(2, 1, 0)
	r.opened(r.visitors[1], new(wsclient.Conn))
	r.send(1, 0, 1)
	r.send(2, 1, 1) // visitor 2 does not come
	r.out.lines(r.now.Add(usual.patience - time.Millisecond))
	if len(r.cuts) != 1 {
		t.Fatal("reported although they may come back")
	}
	at := r.now.Add(usual.patience)
	if got, want := r.report(c, at), (backLine{"back", 2, usual.patience.Seconds(), 2, 2, 0}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestLatencyIsThatOfLiveMessages(t *testing.T) {
	r := newLedgerRig(1)
	v := r.visitors[0]
	r.received(v, &record.Record{Kind: record.Publication, Epoch: "e", Offset: 1, At: uint64(r.now.UnixMilli()) - 20}, r.now)
	if l := r.out.count(r.now); l.P50 < 0.0199 || l.P50 > 0.0201 || l.P99 != l.P50 {
		t.Errorf("got %+v, want 20 ms", l)
	}
	v.target = 2
	r.received(v, &record.Record{Kind: record.Publication, Epoch: "e", Offset: 2, Prev: 1, At: uint64(r.now.UnixMilli()) - 5000}, r.now)
	if l := r.out.count(r.now); l.P50 > 0.0201 {
		t.Errorf("got %+v, want what was last: it was caught up on", l)
	}
}

func TestPublicationsAreRememberedInOrderAndBounded(t *testing.T) {
	var p publications
	at := time.UnixMilli(0)
	for _, offset := range []uint64{5, 9, 7, 9, 5, 20} {
		at = at.Add(time.Second)
		p.add(offset, at)
	}
	if diff := cmp.Diff([]uint64{5, 7, 9, 20}, p.offsets); diff != "" {
		t.Error(diff)
	}
	for _, test := range []struct{ after, upTo, want uint64 }{{0, 20, 4}, {5, 9, 2}, {9, 9, 0}, {9, 5, 0}, {9, 19, 0}, {10, 1 << 62, 1}, {6, 8, 1}} {
		if got := p.between(test.after, test.upTo); got != test.want {
			t.Errorf("between %d and %d: %d, want %d", test.after, test.upTo, got, test.want)
		}
	}
	if got := p.before(time.UnixMilli(2500)); got != 9 {
		t.Errorf("by then %d had been received, want 9", got)
	}
	for i := range uint64(3 * publicationsMost) {
		p.add(100+i, at)
	}
	if n := len(p.offsets); n > publicationsMost || p.head() != 100+3*publicationsMost-1 || len(p.first) != n {
		t.Errorf("%d are remembered up to %d", n, p.head())
	}
}

func TestVisitorsComeBackUnlessItWouldEndTheSameWay(t *testing.T) {
	closed := func(code int, reason string) error {
		return wsutil.ClosedError{Code: ws.StatusCode(code), Reason: reason}
	}
	refused := func(status int) error {
		return fmt.Errorf("dial: %w", &wsclient.Refusal{Status: status, Body: []byte("Why.\nMore.")})
	}
	for _, test := range []struct {
		err  error
		want string
	}{
		{errors.New("reset"), ""},
		{closed(1001, "server is shutting down"), ""},
		{closed(1008, "no response to ping"), ""},
		{closed(1008, "closed by an operator"), "The gateway closed their connections with 1008: closed by an operator"},
		{closed(1013, "too slow: the channel's buffer ran out"), ""},
		{closed(3005, "connection expired"), "The gateway closed their connections with 3005: connection expired"},
		{refused(429), ""},
		{refused(503), ""},
		{refused(401), "The gateway refused them with 401: Why."},
		{refused(404), "The gateway refused them with 404: Why."},
	} {
		if got := final(test.err); got != test.want {
			t.Errorf("%v: %q, want %q", test.err, got, test.want)
		}
	}
}
