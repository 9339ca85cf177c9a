// Package sampling limits what clients can make a gateway log: ten records of a kind per
// second, and a count of the rest. [Quote] turns what a client sent into one short line of
// plain text.
//
// A kind is a level with a message, and with the value of an attribute that was made by [Apart], so
// that one thing that fails all the time does not hide that another fails. Its second begins with the first record after the last
// second. The count of suppressed records is logged as one record of the same level and
// message, with "suppressed" and what Apart made as its only attributes: before the kind's next record, or by
// Flush, whichever comes first. Handlers made with WithAttrs and WithGroup
// share the kinds of their parent, so that a new connection does not begin anew.
//
// The package is apart from package gateway because it is about package log/slog
// alone. It knows no destination, no clock but the records' own times, and starts
// no goroutine: the caller has to call Flush.
package sampling

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// passMax is how many records of a kind pass in each window.
	passMax = 10
	window  = time.Second

	// kindsMax bounds the table. Messages are constants of the program, as a rule, and what is
	// apart is from its configuration; messages of package net/http hold addresses.
	kindsMax = 256
)

// Handler passes some records to another handler. It is safe for concurrent use if that
// handler is, and holds no lock while it calls that handler.
type Handler struct {
	next  slog.Handler
	kinds *kinds
}

// New returns a handler that passes records to next.
func New(next slog.Handler) *Handler {
	return &Handler{next, &kinds{next: next, known: make(map[kind]*count)}}
}

// Enabled implements slog.Handler. It returns the next handler's answer.
func (h *Handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// Handle implements slog.Handler. It does not allocate for a suppressed record. Debug
// records all pass: an operator who asks for them wants everything.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo {
		return h.next.Handle(ctx, r)
	}
	now := r.Time
	if now.IsZero() {
		now = time.Now()
	}
	what := kind{level: r.Level, message: r.Message}
	r.Attrs(func(a slog.Attr) bool {
		if a.Value.Kind() != slog.KindLogValuer {
			return true
		}
		of, ok := a.Value.LogValuer().(apart)
		if ok {
			what.key, what.of = a.Key, of
		}
		return !ok
	})
	passes, owed := h.kinds.take(what, now)
	if !passes {
		return nil
	}
	if owed.suppressed == 0 {
		return h.next.Handle(ctx, r)
	}
	return errors.Join(h.kinds.tell(ctx, owed, now), h.next.Handle(ctx, r))
}

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &Handler{h.next.WithAttrs(attrs), h.kinds}
}

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(name string) slog.Handler {
	return &Handler{h.next.WithGroup(name), h.kinds}
}

// Flush logs the counts of seconds that are over at now, and forgets kinds that have gone
// quiet. Call it about once a second.
func (h *Handler) Flush(now time.Time) error { return h.kinds.flush(now, false) }

// Close logs all remaining counts, so that none is lost when the process ends. Records are
// still accepted afterwards.
func (h *Handler) Close() error { return h.kinds.flush(time.Now(), true) }

// Suppressed returns how many records have been suppressed so far.
func (h *Handler) Suppressed() uint64 { return h.kinds.total.Load() }

// apart is the value of an attribute that tells kinds apart.
type apart string

// LogValue implements slog.LogValuer.
func (a apart) LogValue() slog.Value { return slog.StringValue(string(a)) }

// Apart returns an attribute of a record. Records with different values are of different kinds, of
// which there must be few: clients must not control the value.
func Apart(key, value string) slog.Attr { return slog.Any(key, apart(value)) }

// kind is what counts as the same record.
type kind struct {
	level   slog.Level
	message string
	key     string // of what Apart has made, "" for nothing
	of      apart
}

// kinds is what a handler and its children share.
type kinds struct {
	next  slog.Handler // Set at construction: without any attributes or groups.
	total atomic.Uint64

	// Guarded by mu.
	mu    sync.Mutex
	known map[kind]*count // Invariant: at most kindsMax.
	rest  count           // of all kinds that the table has no room for
	worst slog.Level      // among what is suppressed in rest
}

// count is the window of one kind.
type count struct {
	begun      time.Time // zero: no window
	passed     int
	suppressed uint64
}

// over reports whether the window has ended. A clock that went back ends it, too.
func (c *count) over(now time.Time) bool {
	age := now.Sub(c.begun)
	return c.begun.IsZero() || age >= window || age < 0
}

// debt is what has been suppressed and is now to be told.
type debt struct {
	kind
	suppressed uint64
}

// restMessage is the message for the count of records beyond the table.
const restMessage = "log records of many kinds"

// take decides about a record, and gives what is to be told ahead of it.
func (k *kinds) take(what kind, now time.Time) (passes bool, owed debt) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, rest := k.find(what)
	if c.over(now) {
		owed = k.settle(what, c, rest)
		*c = count{begun: now}
	}
	if c.passed < passMax {
		c.passed++
		return true, owed
	}
	c.suppressed++
	k.total.Add(1)
	if rest && (c.suppressed == 1 || what.level > k.worst) {
		k.worst = what.level
	}
	return false, owed
}

// find returns the count of a kind, which is the common one where there is no room.
func (k *kinds) find(what kind) (c *count, rest bool) {
	if c = k.known[what]; c != nil {
		return c, false
	}
	if len(k.known) >= kindsMax {
		return &k.rest, true
	}
	c = new(count)
	k.known[what] = c
	return c, false
}

// settle takes what c owes.
func (k *kinds) settle(what kind, c *count, rest bool) debt {
	if rest {
		what = kind{level: k.worst, message: restMessage}
	}
	owed := debt{what, c.suppressed}
	c.suppressed = 0
	return owed
}

func (k *kinds) flush(now time.Time, all bool) error {
	var owed []debt
	k.mu.Lock()
	for what, c := range k.known {
		if !all && !c.over(now) {
			continue
		}
		if c.suppressed > 0 {
			owed = append(owed, k.settle(what, c, false))
		}
		if c.over(now) {
			delete(k.known, what)
		}
	}
	if k.rest.suppressed > 0 && (all || k.rest.over(now)) {
		owed = append(owed, k.settle(kind{}, &k.rest, true))
	}
	k.mu.Unlock()
	var errs []error
	for _, o := range owed {
		errs = append(errs, k.tell(context.Background(), o, now))
	}
	return errors.Join(errs...)
}

// tell writes one record about a debt. One that cannot be written is owed again.
func (k *kinds) tell(ctx context.Context, o debt, now time.Time) error {
	r := slog.NewRecord(now, o.level, o.message, 0)
	if o.key != "" {
		r.AddAttrs(slog.String(o.key, string(o.of)))
	}
	r.AddAttrs(slog.Uint64("suppressed", o.suppressed))
	err := k.next.Handle(ctx, r)
	if err != nil {
		k.mu.Lock()
		defer k.mu.Unlock()
		c, rest := k.find(o.kind)
		if o.message == restMessage {
			c, rest = &k.rest, true
		}
		if rest && (c.suppressed == 0 || o.level > k.worst) {
			k.worst = o.level
		}
		c.suppressed += o.suppressed
	}
	return err
}
