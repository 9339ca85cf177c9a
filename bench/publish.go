package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/gobwas/ws"

	"sluice/poller"
)

// publisher is one way to hand a message to the server. send returns when the
// server, or the kernel on its behalf, has taken it.
type publisher interface {
	send(ctx context.Context, payload []byte) (retries int, err error)
	close()
}

// socketPublisher publishes over a WebSocket connection of its own. What comes
// back on it is read and answered like a subscriber's, but not counted.
type socketPublisher struct {
	conn net.Conn
	done chan struct{} // closed when the reading goroutine has ended

	mu    sync.Mutex // orders messages and pongs
	frame []byte
	ended error // why reading ended
}

func newSocketPublisher(ctx context.Context, t target) (*socketPublisher, error) {
	t.url, t.protocol = t.publish, Raw // what a client sends is the bare payload, whatever it gets
	c, early, err := t.open(ctx, 0)
	if err != nil {
		return nil, fmt.Errorf("publisher: %w", err)
	}
	p := &socketPublisher{conn: c, done: make(chan struct{})}
	go p.read(early)
	return p, nil
}

func (p *socketPublisher) read(early []byte) {
	defer close(p.done)
	r := newReceiver(Raw, func(_ *conn, frame []byte) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		_, err := p.conn.Write(frame)
		return err
	})
	var own conn
	scratch := make([]byte, envelopeMax+ws.MaxHeaderSize+scratchSize)
	err := r.feed(&own, early, 0)
	for err == nil {
		var n int
		kept := copy(scratch, own.partial)
		n, err = p.conn.Read(scratch[kept:])
		if n > 0 {
			err = r.feed(&own, scratch[:kept+n], 0)
		}
	}
	p.mu.Lock()
	p.ended = err
	p.mu.Unlock()
	p.conn.Close() // ignored: a send under way fails, which is the purpose
}

func (p *socketPublisher) send(_ context.Context, payload []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := ws.Header{Fin: true, OpCode: ws.OpText, Masked: true, Mask: ws.NewMask(), Length: int64(len(payload))}
	b := bytes.NewBuffer(p.frame[:0])
	ws.WriteHeader(b, h) // ignored: a bytes.Buffer does not fail
	head := b.Len()
	b.Write(payload)
	p.frame = b.Bytes()
	ws.Cipher(p.frame[head:], h.Mask, 0)
	if _, err := p.conn.Write(p.frame); err != nil {
		if p.ended != nil {
			err = p.ended
		}
		return 0, fmt.Errorf("the publisher's connection ended: %w", err)
	}
	return 0, nil
}

func (p *socketPublisher) close() {
	p.mu.Lock()
	p.conn.Write(goodbye) // ignored: the connection is closed next
	p.mu.Unlock()
	p.conn.Close() // ignored: nothing is to be saved
	<-p.done
}

// httpPublisher publishes by POST over a kept connection.
type httpPublisher struct {
	url    string
	client *http.Client
}

func newHTTPPublisher(url string, t target) *httpPublisher {
	return &httpPublisher{url: url, client: &http.Client{
		Timeout:   t.timeout,
		Transport: &http.Transport{MaxIdleConnsPerHost: 1, DisableCompression: true, TLSClientConfig: anyName(t.tls)},
	}}
}

// anyName gives c for a server of another name than the subscribers'.
func anyName(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.ServerName = ""
	return c
}

// errRefused is an answer that asks to come again: 429 or 503.
var errRefused = errors.New("the server refuses publications")

func (p *httpPublisher) send(ctx context.Context, payload []byte) (retries int, err error) {
	const pauseMost = 100 * time.Millisecond
	deadline := time.Now().Add(p.client.Timeout)
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, pauseMost) {
		err := p.post(ctx, payload)
		if !errors.Is(err, errRefused) || ctx.Err() != nil || time.Now().After(deadline) {
			return retries, err
		}
		retries++
		poller.Sleep(pause)
	}
}

func (p *httpPublisher) post(ctx context.Context, payload []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(payload))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()              // ignored: only an unread rest could fail
	answer, err := io.ReadAll(resp.Body) // to its end, so that the connection is kept
	switch {
	case err != nil:
		return fmt.Errorf("POST %s: %w", p.url, err)
	case resp.StatusCode == http.StatusServiceUnavailable, resp.StatusCode == http.StatusTooManyRequests:
		return fmt.Errorf("%w: POST %s: %s", errRefused, p.url, resp.Status)
	case resp.StatusCode/100 != 2:
		return fmt.Errorf("POST %s: %s: %.200q; check --publish-url", p.url, resp.Status, answer)
	}
	return nil
}

func (p *httpPublisher) close() { p.client.CloseIdleConnections() }

// schedule says when each publication of a phase is due.
type schedule struct {
	phase
	clock clock
	start int64   // on the clock
	rate  float64 // publications a second, of all streams together; 0: all at once
	size  int     // payload bytes
}

// due gives the time of a stream's seq-th publication.
func (s schedule) due(stream, seq int) int64 {
	if s.rate == 0 {
		return s.start
	}
	return s.start + int64(float64(seq*s.streams+stream)/s.rate*float64(time.Second))
}

// end gives the time at which the n-th publication is due.
func (s schedule) end(n int) int64 { return s.due((n-1)%s.streams, (n-1)/s.streams) }

// lateBound is how late a send may be before it counts as late: 10 ms, or a
// fifth of the interval when messages are sparse.
func (s schedule) lateBound() time.Duration {
	if s.rate == 0 {
		return latencyMax
	}
	interval := time.Duration(float64(s.streams) / s.rate * float64(time.Second))
	return max(10*time.Millisecond, interval/5)
}

// sending is what became of one stream.
type sending struct {
	published uint32
	retries   int64
	late      *hdr.Histogram // microseconds behind what the generator could have done
	lateSends int64          // beyond lateBound
	blocked   time.Duration  // longest that the server kept a send waiting
	err       error
}

// publish sends one stream's part of a schedule.
//
// A send is late by what separates it from an ideal generator, one that is never
// late but whose sends take as long as these did: what the server's push-back
// delays is not the generator's fault. Latency is measured from the due time in
// either case.
func (s schedule) publish(ctx context.Context, p publisher, stream int) sending {
	// On cores that are shared with the receiving loops and the server, a
	// publisher must not queue behind them when its time has come. The thread is not
	// unlocked: it ends with the goroutine, and its priority with it.
	runtime.LockOSThread()
	poller.Hurry()
	out := sending{late: newLatency()}
	payload := bytes.Repeat([]byte{'.'}, s.size)
	bound := s.lateBound()
	free := s.start // when the ideal generator is done with the send before
	for seq := 0; seq*s.streams+stream < s.count; seq++ {
		due := s.due(stream, seq)
		now, ok := s.sleepUntil(ctx, due)
		if !ok {
			return out
		}
		ideal := max(due, free)
		late := time.Duration(now - ideal)
		if s.rate > 0 {
			out.late.RecordValue(min(late, latencyMax).Microseconds()) // ignored: within the bounds
			if late > bound {
				out.lateSends++
			}
		}
		stamp{uint8(stream), uint32(seq), due}.put(payload, s.mark)
		retries, err := p.send(ctx, payload)
		out.retries += int64(retries)
		if err != nil {
			if ctx.Err() == nil {
				out.err = err
			}
			return out
		}
		out.published++
		took := s.clock.now() - now
		free = ideal + took
		out.blocked = max(out.blocked, time.Duration(took))
	}
	return out
}

// sleepUntil waits for a time on the clock and gives the time that it is then;
// false when ctx ended first. It sleeps in pieces to notice that.
func (s schedule) sleepUntil(ctx context.Context, due int64) (now int64, ok bool) {
	for {
		if ctx.Err() != nil {
			return 0, false
		}
		now = s.clock.now()
		if now >= due {
			return now, true
		}
		poller.Sleep(min(time.Duration(due-now), 50*time.Millisecond))
	}
}
