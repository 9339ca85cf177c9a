package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Publisher publishes to one channel over HTTP. Nobody else publishes there, so
// its receipts, in the order of their offsets, are the channel's order.
type Publisher struct {
	run     *Run
	gateway *Gateway
	channel string
	size    int
	rate    float64
	begin   time.Time
	due     atomic.Int64 // messages that a worker has taken on

	mu      sync.Mutex // guards the rest; nobody else has it after done
	entries map[string][]entry
	pushed  int // times that the gateway pushed back
	longest time.Duration
	err     error // the first one

	cancel  context.CancelFunc
	workers sync.WaitGroup
}

// entry is what a receipt says, and the payload's hash.
type entry struct{ offset, subscribers, hash uint64 }

// inFlight is how many messages of a publisher may wait for their receipts: the
// answers take long when the gateway shares two cores with ten thousand clients.
const inFlight = 8

// publisher returns one that has not begun.
func (r *Run) publisher(g *Gateway, channel string, size int) *Publisher {
	return &Publisher{run: r, gateway: g, channel: channel, size: size, entries: map[string][]entry{}}
}

// Publish begins to publish so many messages a second of so many bytes, until
// StopPublishing. What becomes due while the gateway does not answer follows at once.
func (r *Run) Publish(g *Gateway, channel string, rate float64, size int) *Publisher {
	p := r.publisher(g, channel, size)
	p.rate, p.begin = rate, time.Now()
	ctx, cancel := context.WithCancel(r.ctx)
	p.cancel = cancel
	for range inFlight {
		p.workers.Go(func() {
			for p.next(ctx) {
			}
		})
	}
	return p
}

// PublishSome publishes n messages, each as soon as the channel has taken the one before, and
// takes them into the row's ledger.
func (r *Run) PublishSome(g *Gateway, channel string, n, size int) error {
	p := r.publisher(g, channel, size)
	for i := range int64(n) {
		if err := p.publish(r.ctx, i); err != nil {
			return fmt.Errorf("publish into %s: %w", channel, err)
		}
	}
	orders, err := p.orders()
	r.orders = append(r.orders, orders...)
	return err
}

// next publishes the next message when it is due; false when there is none.
func (p *Publisher) next(ctx context.Context) bool {
	n := p.due.Add(1) - 1
	select {
	case <-ctx.Done():
		return false
	case <-time.After(time.Until(p.begin.Add(time.Duration(float64(n) / p.rate * float64(time.Second))))):
	}
	err := p.publish(ctx, n)
	if err != nil {
		p.mu.Lock()
		if p.err == nil {
			p.err = fmt.Errorf("publish into %s: %w", p.channel, err)
		}
		p.mu.Unlock()
		p.cancel()
	}
	return err == nil
}

// StopPublishing ends publishers and takes what they published into the row's ledger.
// It returns the part of what was due that was published, 0 to 1.
func (r *Run) StopPublishing(publishers ...*Publisher) (held float64, err error) {
	var pushed, published int
	var longest time.Duration
	var due float64
	for _, p := range publishers {
		due += max(time.Since(p.begin).Seconds()*p.rate, 1)
		p.cancel()
	}
	for _, p := range publishers {
		p.workers.Wait()
		orders, wrong := p.orders()
		r.orders = append(r.orders, orders...)
		for _, o := range orders {
			published += len(o.Hashes)
		}
		pushed += p.pushed
		longest = max(longest, p.longest)
		err = errors.Join(err, p.err, wrong)
	}
	held = min(float64(published)/due, 1)
	r.Count("pushed_back", float64(pushed))
	r.Count("longest_publish_seconds", longest.Seconds())
	r.Count("published_part_of_due", held)
	return held, err
}

// publish publishes one message: again and again while the gateway pushes back. Once
// begun it is carried out, because its fate must be known.
func (p *Publisher) publish(ctx context.Context, n int64) error {
	for {
		payload := p.run.payload(p.channel, n, "", p.size)
		begin := time.Now()
		receipt, err := p.gateway.publish(context.WithoutCancel(ctx), p.channel, payload)
		pushedBack := errors.Is(err, errPushedBack)
		if err != nil && !pushedBack {
			return err
		}
		p.mu.Lock()
		p.longest = max(p.longest, time.Since(begin))
		if pushedBack {
			p.pushed++
		} else {
			p.entries[receipt.Epoch] = append(p.entries[receipt.Epoch], entry{receipt.Offset, receipt.Subscribers, hashOf([]byte(payload))})
		}
		p.mu.Unlock()
		if !pushedBack || ctx.Err() != nil { // pushed back, it was not published
			return nil
		}
	}
}

// payload returns a message of so many bytes that begins with the time, a name and a number, so that no two
// are alike, and a mark.
func (r *Run) payload(name string, n int64, mark string, size int) string {
	head := fmt.Sprintf("%016x.%s.%d.%s", int64(time.Since(r.began)), name, n, mark)
	from := int(n*7919) % (len(r.filler) / 2)
	return head + r.filler[from:from+max(size-len(head), 0)]
}

// receipt is the answer to a POST.
type receipt struct {
	Epoch       string `json:"epoch"`
	Offset      uint64 `json:"offset"`
	Subscribers uint64 `json:"subscribers"`
}

// errPushedBack is the error of a message that was not published because the gateway is busy.
var errPushedBack = errors.New("the gateway pushed back")

// publish publishes a message into a channel, once.
func (g *Gateway) publish(ctx context.Context, channel, payload string) (r receipt, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+g.Internal+"/publish/"+url.PathEscape(channel), strings.NewReader(payload))
	if err != nil {
		return r, err
	}
	req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	resp, err := g.HTTP.Do(req)
	var body []byte
	if err == nil {
		body, err = io.ReadAll(resp.Body)
		resp.Body.Close() // ignored: only an unread rest could fail
	}
	switch {
	case err != nil:
		return r, fmt.Errorf("it is unknown whether the message was published: %w", err)
	case resp.StatusCode == http.StatusServiceUnavailable, resp.StatusCode == http.StatusTooManyRequests:
		return r, errPushedBack
	case resp.StatusCode != http.StatusOK:
		return r, fmt.Errorf("%s: %.200s", resp.Status, body)
	}
	return r, json.Unmarshal(body, &r)
}

// orders puts the receipts in order, an epoch at a time. It is an error if there are several, of
// which nobody knows which began first, or if an offset was given twice.
func (p *Publisher) orders() (orders []*Order, err error) {
	for epoch, entries := range p.entries {
		slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.offset, b.offset) })
		o := &Order{Channel: p.channel, Epoch: epoch}
		for _, e := range entries {
			if e.offset <= o.Last() && err == nil {
				err = fmt.Errorf("the receipts of %s have offset %d twice", p.channel, e.offset)
			}
			o.Offsets = append(o.Offsets, e.offset)
			o.Hashes = append(o.Hashes, e.hash)
			o.Subscribers += e.subscribers
		}
		orders = append(orders, o)
	}
	if len(orders) > 1 && err == nil {
		err = fmt.Errorf("channel %s started over %d times", p.channel, len(orders)-1)
	}
	return orders, err
}

// stampOf reads the time at which a payload was published.
func stampOf(payload []byte) (time.Duration, bool) {
	if len(payload) < 16 {
		return 0, false
	}
	n, err := strconv.ParseInt(string(payload[:16]), 16, 64)
	return time.Duration(n), err == nil
}
