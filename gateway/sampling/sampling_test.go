package sampling

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// journal is a sampled log with a clock of its own.
type journal struct {
	t   *testing.T
	h   *Handler
	out bytes.Buffer
	now time.Time
}

func newJournal(t *testing.T) *journal {
	b := &journal{t: t, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	b.h = New(slog.NewTextHandler(&b.out, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey && len(groups) == 0 {
			return slog.Attr{}
		}
		return a
	}}))
	return b
}

// log sends n records through h, as a logger does.
func (b *journal) log(h slog.Handler, n int, level slog.Level, message string, attrs ...slog.Attr) {
	for range n {
		r := slog.NewRecord(b.now, level, message, 0)
		r.AddAttrs(attrs...)
		if err := h.Handle(context.Background(), r); err != nil {
			b.t.Error(err)
		}
	}
}

func (b *journal) flush() {
	if err := b.h.Flush(b.now); err != nil {
		b.t.Error(err)
	}
}

// want compares what was written since the last call; "10 x LINE" is ten lines.
func (b *journal) want(why string, want ...string) {
	b.t.Helper()
	var got []string
	n, last := 0, ""
	lines := strings.SplitAfter(b.out.String(), "\n")
	for _, line := range lines { // the last one is empty
		if line = strings.TrimSuffix(line, "\n"); line == last {
			n++
			continue
		}
		if n > 1 {
			last = fmt.Sprintf("%d x %s", n, last)
		}
		if n > 0 {
			got = append(got, last)
		}
		n, last = 1, line
	}
	b.out.Reset()
	if diff := cmp.Diff(want, got); diff != "" {
		b.t.Errorf("%s: %s", why, diff)
	}
}

func TestRepeatedRecordsAreCountedAndTold(t *testing.T) {
	b := newJournal(t)
	b.log(b.h, 25, slog.LevelInfo, "closed")
	b.log(b.h, 3, slog.LevelWarn, "closed")
	b.log(b.h, 11, slog.LevelError, "closed")
	b.want("each level is a kind of its own", "10 x level=INFO msg=closed", "3 x level=WARN msg=closed", "10 x level=ERROR msg=closed")

	b.now = b.now.Add(999 * time.Millisecond)
	b.log(b.h, 1, slog.LevelInfo, "closed")
	b.flush()
	b.want("the second is not over")

	b.now = b.now.Add(time.Millisecond)
	b.log(b.h, 12, slog.LevelInfo, "closed")
	b.want("the next record brings the count", "level=INFO msg=closed suppressed=16", "10 x level=INFO msg=closed")
	b.flush()
	b.want("a flush brings the others", "level=ERROR msg=closed suppressed=1")

	b.now = b.now.Add(time.Second)
	b.flush()
	b.want("no count is told twice", "level=INFO msg=closed suppressed=2")
	if n := len(b.h.kinds.known); n != 0 {
		t.Errorf("%d quiet kinds are kept", n)
	}
	if got, want := b.h.Suppressed(), uint64(19); got != want {
		t.Errorf("Suppressed is %d, want %d", got, want)
	}

	b.log(b.h, 11, slog.LevelInfo, "bye")
	if err := b.h.Close(); err != nil {
		t.Error(err)
	}
	b.want("nothing is owed at the end", "10 x level=INFO msg=bye", "level=INFO msg=bye suppressed=1")

	b.now = b.now.Add(-time.Hour)
	b.log(b.h, 1, slog.LevelInfo, "bye")
	b.want("a clock that goes back silences nobody", "level=INFO msg=bye")
}

func TestChildrenShareTheirParentsKinds(t *testing.T) {
	b := newJournal(t)
	child := b.h.WithAttrs([]slog.Attr{slog.Int("conn", 1)})
	grand := child.WithGroup("g")
	b.log(child, 9, slog.LevelInfo, "slow")
	b.log(grand, 2, slog.LevelInfo, "slow", slog.Int("a", 1))
	b.log(b.h, 1, slog.LevelInfo, "slow")
	b.want("ten in all", "9 x level=INFO msg=slow conn=1", "level=INFO msg=slow conn=1 g.a=1")
	b.now = b.now.Add(time.Second)
	b.log(grand, 1, slog.LevelInfo, "slow", slog.Int("a", 2))
	b.want("the count is nobody's own", "level=INFO msg=slow suppressed=2", "level=INFO msg=slow conn=1 g.a=2")
}

func TestTheTableOfKindsIsBounded(t *testing.T) {
	b := newJournal(t)
	for i := range kindsMax {
		b.log(b.h, 1, slog.LevelInfo, fmt.Sprint("kind ", i))
	}
	b.out.Reset()
	for i := range passMax {
		b.log(b.h, 1, slog.LevelInfo, fmt.Sprint("more ", i))
	}
	b.out.Reset()
	b.log(b.h, 5, slog.LevelInfo, "too many")
	b.log(b.h, 1, slog.LevelError, "bad")
	b.log(b.h, 1, slog.LevelInfo, "too many")
	b.want("the common kind is full")
	b.now = b.now.Add(time.Second)
	b.flush()
	b.want("one count for all, at the worst level", `level=ERROR msg="log records of many kinds" suppressed=7`)
	b.log(b.h, 1, slog.LevelInfo, "fresh")
	if n := len(b.h.kinds.known); n != 1 {
		t.Errorf("%d kinds after all but one went quiet", n)
	}
}

func TestSuppressedRecordsAreCheap(t *testing.T) {
	b := newJournal(t)
	b.log(b.h, passMax, slog.LevelInfo, "again")
	r := slog.NewRecord(b.now, slog.LevelInfo, "again", 0)
	if n := testing.AllocsPerRun(100, func() { _ = b.h.Handle(context.Background(), r) }); n != 0 {
		t.Errorf("%v allocations for a suppressed record", n)
	}
	b.log(b.h, passMax, slog.LevelInfo, "again", Apart("of", "one"))
	r.AddAttrs(slog.Int("n", 1), Apart("of", "one"))
	if n := testing.AllocsPerRun(100, func() { _ = b.h.Handle(context.Background(), r) }); n != 0 {
		t.Errorf("%v allocations for a suppressed record of one of several kinds", n)
	}
}

func TestWhatIsApartIsNotSuppressedByOthers(t *testing.T) {
	b := newJournal(t)
	b.log(b.h, passMax+5, slog.LevelWarn, "failed", slog.Int("n", 1), Apart("of", "one"))
	b.log(b.h, 1, slog.LevelWarn, "failed", Apart("of", "other"), slog.Int("n", 2))
	b.log(b.h, passMax+1, slog.LevelWarn, "failed")
	b.want("each of its own kind", `10 x level=WARN msg=failed n=1 of=one`, `level=WARN msg=failed of=other n=2`, `10 x level=WARN msg=failed`)
	b.now = b.now.Add(time.Second)
	b.log(b.h, 1, slog.LevelWarn, "failed", Apart("of", "one"))
	b.want("the count says whose it is", `level=WARN msg=failed of=one suppressed=5`, `level=WARN msg=failed of=one`)
	b.flush()
	b.want("and that of the others", `level=WARN msg=failed suppressed=1`)
}

// broken is a handler whose destination fails for a while.
type broken struct {
	slog.Handler
	err error
}

func (h *broken) Handle(ctx context.Context, r slog.Record) error {
	if h.err != nil {
		return h.err
	}
	return h.Handler.Handle(ctx, r)
}

func TestACountThatCannotBeWrittenIsStillOwed(t *testing.T) {
	b := newJournal(t)
	disk := &broken{Handler: b.h.next}
	b.h = New(disk)
	b.log(b.h, 12, slog.LevelError, "failed")
	b.out.Reset()
	disk.err = errors.New("disk full")
	b.now = b.now.Add(time.Second)
	if err := b.h.Flush(b.now); !errors.Is(err, disk.err) {
		t.Errorf("the flush says %v", err)
	}
	disk.err = nil
	b.flush()
	b.want("later", "level=ERROR msg=failed suppressed=2")
}

// What passes and what is told are together what was logged, however many do so.
func TestNoCountIsLostBetweenGoroutines(t *testing.T) {
	var mu sync.Mutex
	passed, told := 0, 0
	h := New(counting(func(r slog.Record) {
		mu.Lock()
		defer mu.Unlock()
		n := 0
		r.Attrs(func(a slog.Attr) bool { n += int(a.Value.Uint64()); return true })
		told += n
		if n == 0 {
			passed++
		}
	}))
	const goroutines, each = 8, 2000
	begin := time.Now()
	var all sync.WaitGroup
	for g := range goroutines {
		all.Go(func() {
			logger := h.WithAttrs([]slog.Attr{slog.Int("g", g)})
			for i := range each {
				now := begin.Add(time.Duration(i) * 5 * time.Millisecond)
				_ = logger.Handle(context.Background(), slog.NewRecord(now, slog.LevelInfo, fmt.Sprint(i%3), 0)) // counting never fails
				if g == 0 {
					_ = h.Flush(now)
				}
			}
		})
	}
	all.Wait()
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if passed+told != goroutines*each || uint64(told) != h.Suppressed() {
		t.Errorf("%d passed, %d told, %d suppressed, %d logged", passed, told, h.Suppressed(), goroutines*each)
	}
}

// counting is a handler that calls itself.
type counting func(slog.Record)

func (c counting) Enabled(context.Context, slog.Level) bool      { return true }
func (c counting) Handle(_ context.Context, r slog.Record) error { c(r); return nil }
func (c counting) WithAttrs([]slog.Attr) slog.Handler            { return c }
func (c counting) WithGroup(string) slog.Handler                 { return c }
