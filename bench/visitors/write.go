package visitors

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// latencyMost is the longest latency that is recorded; longer ones count as it.
const latencyMost = time.Minute

func newLatency() *hdr.Histogram { return hdr.New(1, latencyMost.Microseconds(), 3) }

// dots are one bit for each visitor.
type dots []byte

func newDots(n int) dots                    { return make(dots, (n+7)/8) }
func (d dots) set(i int)                    { d[i/8] |= 1 << (i % 8) }
func (d dots) clear(i int)                  { d[i/8] &^= 1 << (i % 8) }
func (d dots) any() bool                    { return slices.ContainsFunc(d, func(b byte) bool { return b != 0 }) }
func (d dots) MarshalText() ([]byte, error) { return base64.StdEncoding.AppendEncode(nil, d), nil }

// The lines of the output; see doc.go.
type (
	connectingLine struct {
		Type      string `json:"type"`
		Connected int    `json:"connected"`
		Of        int    `json:"of"`
	}
	dotsLine struct {
		Type string `json:"type"`
		Dots dots   `json:"dots"`
	}
	ledgerLine struct {
		Type     string  `json:"type"`
		Received uint64  `json:"received"`
		Lost     uint64  `json:"lost"`
		Repeated uint64  `json:"repeated"`
		P50      float64 `json:"p50"`
		P99      float64 `json:"p99"`
	}
	backLine struct {
		Type     string  `json:"type"`
		Cut      int     `json:"cut"`
		After    float64 `json:"after"`
		CaughtUp uint64  `json:"caught_up"`
		Lost     uint64  `json:"lost"`
		Repeated uint64  `json:"repeated"`
	}
	endLine struct {
		Type   string `json:"type"`
		Reason string `json:"reason"`
	}
)

// writer remembers what was written last.
type writer struct {
	crowd     *crowd
	connected int // -1: nothing was written yet
	ledgerAt  time.Time
	ledger    ledgerLine
}

// write writes lines until ctx is done, and then the last one. It ends the visit if nobody reads them.
func (c *crowd) write(ctx context.Context, out io.Writer) {
	w := writer{crowd: c, connected: -1, ledgerAt: c.clock(), ledger: ledgerLine{Type: "ledger"}}
	tick := time.NewTicker(c.pace.lines)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if b := w.lines(c.clock()); len(b) > 0 {
				if _, err := out.Write(b); err != nil {
					c.end(fmt.Errorf("the output: %w", err))
					return
				}
			}
		case <-ctx.Done():
			out.Write(appendLine(nil, endLine{"end", context.Cause(ctx).Error()})) // ignored: it is the end
			return
		}
	}
}

// lines returns what has changed.
func (w *writer) lines(now time.Time) []byte {
	c := w.crowd
	c.mu.Lock()
	defer c.mu.Unlock()
	var b []byte
	if c.connected != w.connected {
		w.connected = c.connected
		b = appendLine(b, connectingLine{"connecting", c.connected, len(c.visitors)})
	}
	if c.changed {
		c.changed = false
		b = appendLine(b, dotsLine{"open", c.open})
	}
	if c.flash.any() {
		b = appendLine(b, dotsLine{"flash", c.flash})
		clear(c.flash)
	}
	c.settle(now.Add(-c.pace.settle))
	back := false
	c.cuts = slices.DeleteFunc(c.cuts, func(cut *cut) bool {
		done := cut.away == 0 && now.Sub(cut.back) >= c.pace.grace || now.Sub(cut.at) >= c.pace.patience
		if done {
			back = true
			b = appendLine(b, c.report(cut, now))
		}
		return done
	})
	if back || now.Sub(w.ledgerAt) >= c.pace.ledger {
		w.ledgerAt = now
		b = appendLine(b, w.count(now))
	}
	return b
}

// report returns what has become of a cut. What those who are not back have missed is lost.
func (c *crowd) report(cut *cut, now time.Time) backLine {
	if cut.away > 0 {
		cut.back = now
	}
	for _, v := range c.visitors {
		if v.cut != cut {
			continue
		}
		if n := c.seen.between(v.last, c.seen.head()); !v.back && n > 0 {
			c.count(v, func(counts *counts) { counts.lost += n })
			v.last = c.seen.head() // it is counted
		}
		v.cut = nil
	}
	return backLine{"back", cut.size, cut.back.Sub(cut.at).Seconds(), cut.counts.caughtUp, cut.counts.lost, cut.counts.repeated}
}

// count returns the ledger. The latency is that of the last second in which there was any.
func (w *writer) count(now time.Time) ledgerLine {
	c := w.crowd
	w.ledger.Received, w.ledger.Lost, w.ledger.Repeated = c.counts.received, c.counts.lost+c.overdue(now), c.counts.repeated
	if c.latency.TotalCount() > 0 {
		seconds := func(percent float64) float64 { return float64(c.latency.ValueAtQuantile(percent)) / 1e6 }
		w.ledger.P50, w.ledger.P99 = seconds(50), seconds(99)
		c.latency.Reset()
	}
	return w.ledger
}

func appendLine(b []byte, line any) []byte {
	buf := bytes.NewBuffer(b)
	if err := json.NewEncoder(buf).Encode(line); err != nil {
		panic(err) // our own lines can be encoded
	}
	return buf.Bytes()
}
