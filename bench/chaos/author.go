package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// author publishes into one channel on one gateway of several, over HTTP, one publication at a time.
// It numbers its publications. One that fails may have been published, and is not published again:
// the next has the next number.
type author struct {
	// Set at construction.
	run     *Run
	gateway *Gateway
	channel string
	name    string // in payloads
	began   time.Time
	every   time.Duration
	size    int

	mu sync.Mutex
	// Guarded by mu.
	finishing bool     // what it publishes is its last
	hashes    []uint64 // of the payloads, by number from 0
	acked     []bool
	receipts  []authorReceipt
	longest   time.Duration
	silent    time.Duration // the longest time between two receipts
	last      time.Time     // of the newest receipt
	finished  uint64        // the number of the last publication, once it has a receipt
}

// authorReceipt is a receipt with its position, of a channel that has one order.
type authorReceipt struct {
	number int
	epoch  string
	offset uint64
	at     time.Duration // since began
}

// Crew is authors on several gateways.
type Crew struct {
	run     *Run
	authors []*author
	cancel  context.CancelFunc
	working sync.WaitGroup
}

// Write begins to publish into each of the channels on each of the gateways, so many messages a second in
// all, until the crew's Finish.
func (r *Run) Write(gateways []*Gateway, channels []string, perSecond float64, size int) *Crew {
	ctx, cancel := context.WithCancel(r.ctx)
	crew := &Crew{run: r, cancel: cancel}
	every := time.Duration(float64(len(gateways)*len(channels)) / perSecond * float64(time.Second))
	for i, g := range gateways {
		for j, channel := range channels {
			a := &author{run: r, gateway: g, channel: channel, name: fmt.Sprintf("%s@%d", channel, i), began: r.began, every: every, size: size, last: time.Now()}
			crew.authors = append(crew.authors, a)
			first := every * time.Duration(i*len(channels)+j) / time.Duration(len(gateways)*len(channels))
			crew.working.Go(func() { a.write(ctx, first) })
		}
	}
	r.authors = append(r.authors, crew.authors...)
	return crew
}

// write publishes until ctx ends. What becomes due while the gateway does not answer is left out.
func (a *author) write(ctx context.Context, first time.Duration) {
	for wait := first; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		begin := time.Now()
		a.publish(context.WithoutCancel(ctx)) // ignored: what fails may have been published
		wait = max(a.every-time.Since(begin), 0)
	}
}

// authorWithin bounds the wait for a receipt: a gateway that stands still does not answer.
const authorWithin = 10 * time.Second

// publish publishes the next message, and reports why it has no receipt.
func (a *author) publish(ctx context.Context) error {
	a.mu.Lock()
	n := len(a.hashes)
	mark := ""
	if a.finishing {
		mark = lastMark
	}
	payload := a.run.payload(a.name, int64(n)+1, mark, a.size)
	a.hashes, a.acked = append(a.hashes, hashOf([]byte(payload))), append(a.acked, false)
	a.mu.Unlock()
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, authorWithin)
	defer cancel()
	got, err := a.gateway.publish(ctx, a.channel, payload)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		return err
	}
	now := time.Now()
	a.longest = max(a.longest, now.Sub(begin))
	a.silent = max(a.silent, now.Sub(a.last))
	a.last, a.acked[n] = now, true
	if a.finishing {
		a.finished = uint64(n + 1)
	}
	if got.Offset > 0 {
		a.receipts = append(a.receipts, authorReceipt{n, got.Epoch, got.Offset, now.Sub(a.began)})
	}
	return nil
}

// lastMark is behind the number in the last publication of an author.
const lastMark = "!"

// finishAuthors bounds the wait for the last receipt of each author.
const finishAuthors = time.Minute

// Finish ends the crew. The last publication of each author has a receipt, so that clients that have
// nothing from it miss something.
func (c *Crew) Finish() error {
	c.cancel()
	c.working.Wait()
	ctx, cancel := context.WithTimeout(c.run.ctx, finishAuthors)
	defer cancel()
	var failed sync.Map
	for _, a := range c.authors {
		c.working.Go(func() {
			a.mu.Lock()
			a.finishing = true
			a.mu.Unlock()
			for {
				err := a.publish(ctx)
				if err == nil {
					return
				}
				if ctx.Err() != nil {
					failed.Store(a.name, err)
					return
				}
				c.run.Pause(50 * time.Millisecond) // ignored: then ctx has ended, too
			}
		})
	}
	c.working.Wait()
	var err error
	failed.Range(func(name, why any) bool {
		err = errors.Join(err, fmt.Errorf("%s cannot publish %v after the last fault: %w", name, finishAuthors, why.(error)))
		return true
	})
	return err
}

// counts returns how many publications an author has tried, and how many have a receipt.
func (a *author) counts() (tried, acked int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, ok := range a.acked {
		if ok {
			acked++
		}
	}
	return len(a.acked), acked
}

// authorOf reads the author and the number of a payload, and whether it is the author's last.
func authorOf(payload []byte) (name []byte, number uint64, last, ok bool) {
	_, rest, a := bytes.Cut(payload, []byte{'.'})
	name, rest, b := bytes.Cut(rest, []byte{'.'})
	digits, rest, c := bytes.Cut(rest, []byte{'.'})
	for _, d := range digits {
		if d < '0' || d > '9' {
			return nil, 0, false, false
		}
		number = 10*number + uint64(d-'0')
	}
	return name, number, bytes.HasPrefix(rest, []byte(lastMark)), a && b && c && len(digits) > 0 && len(digits) < 19
}
