package proxy

import (
	"container/list"
	"strconv"
	"strings"
	"sync"
	"time"

	"sluice/gateway/hook"
)

// cacheBytesMax is how much a cache may hold, by an estimate of each decision's size.
const cacheBytesMax = 16 << 20

// itemBytes is about what a decision takes beside its payloads.
const itemBytes = 400

// cache keeps decisions for a while. When it is full the oldest ones go.
type cache[Q, A any] struct {
	// Set at construction.
	key func(q Q) key
	// cacheable returns the number of bytes of a decision's payloads, false if it must not be
	// used again.
	cacheable func(a *A, err error) (bytes int, ok bool)

	mu sync.Mutex
	// Guarded by mu.
	items map[key]*list.Element // of order
	order *list.List            // of *item[A], oldest first
	bytes int
}

type item[A any] struct {
	key   key
	a     *A
	err   error
	until time.Time
	bytes int
}

func newCache[Q, A any](cacheable func(*A, error) (int, bool), keyOf func(Q) key) *cache[Q, A] {
	return &cache[Q, A]{key: keyOf, cacheable: cacheable, items: make(map[key]*list.Element), order: list.New()}
}

// get returns a decision.
func (c *cache[Q, A]) get(q Q) (a *A, err error, ok bool) {
	k := c.key(q)
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.items[k]
	if e == nil {
		return nil, nil, false
	}
	x := e.Value.(*item[A])
	if !time.Now().Before(x.until) {
		c.remove(e)
		return nil, nil, false
	}
	return x.a, x.err, true
}

// put keeps a decision.
func (c *cache[Q, A]) put(q Q, a *A, err error, d time.Duration) {
	n, ok := c.cacheable(a, err)
	if n += itemBytes; !ok || n > cacheBytesMax {
		return
	}
	k, now := c.key(q), time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.items[k]; e != nil {
		c.remove(e)
	}
	c.items[k] = c.order.PushBack(&item[A]{key: k, a: a, err: err, until: now.Add(d), bytes: n})
	c.bytes += n
	for e := c.order.Front(); c.bytes > cacheBytesMax || !now.Before(e.Value.(*item[A]).until); e = c.order.Front() {
		c.remove(e)
	}
}

func (c *cache[Q, A]) remove(e *list.Element) {
	x := c.order.Remove(e).(*item[A])
	delete(c.items, x.key)
	c.bytes -= x.bytes
}

// cacheableSubscription is what is cacheable of subscriptions: a decision that holds until
// further notice.
func cacheableSubscription(a *hook.SubscribeResult, err error) (bytes int, ok bool) {
	if err != nil {
		e, isError := err.(*hook.Error)
		if !isError || e.Temporary {
			return 0, false
		}
		return len(e.Message), true
	}
	if a == nil {
		return 0, true
	}
	return len(a.Info) + len(a.Data), a.ExpireAt == 0
}

// freshFor returns for how long an answer may be used again: at most d, and less if its
// Cache-Control says so (RFC 9111 section 5.2.2).
func freshFor(d time.Duration, cacheControl []string) time.Duration {
	for _, line := range cacheControl {
		for directive := range strings.SplitSeq(line, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
			switch strings.ToLower(name) {
			case "private", "no-store", "no-cache":
				return 0
			case "max-age":
				seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 32)
				if err != nil {
					return 0
				}
				d = min(d, time.Duration(seconds)*time.Second)
			}
		}
	}
	return d
}
