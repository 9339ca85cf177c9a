package channel

import "sync/atomic"

// Budget bounds the bytes that all logs hold together. It is safe for concurrent use.
type Budget struct {
	limit int64
	used  atomic.Int64
}

// NewBudget returns a budget of the given number of bytes.
func NewBudget(bytes int) *Budget { return &Budget{limit: int64(bytes)} }

// Take takes n bytes and reports whether that many were left.
func (b *Budget) Take(n int) bool {
	if b.used.Add(int64(n)) > b.limit {
		b.used.Add(-int64(n))
		return false
	}
	return true
}

// Give returns n bytes to the budget.
func (b *Budget) Give(n int) { b.used.Add(-int64(n)) }

// free returns the bytes that can be taken.
func (b *Budget) free() int64 { return b.limit - b.used.Load() }

// Used returns the number of bytes taken.
func (b *Budget) Used() int { return int(b.used.Load()) }
