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
	"net/url"
	"runtime"
	"strings"
	"sync"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/gobwas/ws"

	"sluice/bench/sys"
)

// publisher is one way to hand a message to the server. send returns when the
// server, or the kernel on its behalf, has taken it. stream says to which channel,
// where each has its own.
type publisher interface {
	send(ctx context.Context, stream int, payload []byte) (retries int, err error)
	close()
}

// newPublisher returns one that POSTs, or without an address one with a connection.
func newPublisher(ctx context.Context, t target, postTo string) (publisher, error) {
	if postTo != "" {
		return newHTTPPublisher(postTo, t), nil
	}
	return newSocketPublisher(ctx, t)
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
	t.url, t.protocol, t.audience, t.compress = t.publish, Raw, nil, false // what a client sends is the bare payload, whatever it gets
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
	r := newReceiver(Raw, 1, func(_ *conn, frame []byte) error {
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

func (p *socketPublisher) send(_ context.Context, _ int, payload []byte) (int, error) {
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
		return 0, fmt.Errorf("the publisher's connection was closed: %w", err)
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
	urls   []string // by stream; one: that of all
	client *http.Client
}

// inURL stands for the name of a channel in --publish-url.
const inURL = "{channel}"

func newHTTPPublisher(address string, t target) *httpPublisher {
	urls := []string{address}
	if t.audience != nil && strings.Contains(address, inURL) {
		urls = nil
		for _, c := range t.audience.channels {
			urls = append(urls, strings.ReplaceAll(address, inURL, url.PathEscape(c.name)))
		}
	}
	return &httpPublisher{urls: urls, client: &http.Client{
		Timeout:   t.timeout,
		Transport: &http.Transport{MaxIdleConnsPerHost: 1, DisableCompression: true, TLSClientConfig: anyName(t.tls)},
	}}
}

// anyName returns c for a server of another name than the subscribers'.
func anyName(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.ServerName = ""
	return c
}

// errRefused is an answer that asks to come again: 429 or 503.
var errRefused = errors.New("the server rejects messages")

func (p *httpPublisher) send(ctx context.Context, stream int, payload []byte) (retries int, err error) {
	const pauseMost = 100 * time.Millisecond
	deadline := time.Now().Add(p.client.Timeout)
	address := p.urls[min(stream, len(p.urls)-1)]
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, pauseMost) {
		err := p.post(ctx, address, payload)
		if !errors.Is(err, errRefused) || ctx.Err() != nil || time.Now().After(deadline) {
			return retries, err
		}
		retries++
		sys.Sleep(pause)
	}
}

func (p *httpPublisher) post(ctx context.Context, address string, payload []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(payload))
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
		return fmt.Errorf("POST %s: %w", address, err)
	case resp.StatusCode == http.StatusServiceUnavailable, resp.StatusCode == http.StatusTooManyRequests:
		return fmt.Errorf("%w: POST %s: %s", errRefused, address, resp.Status)
	case resp.StatusCode/100 != 2:
		return fmt.Errorf("POST %s: %s: %.200q; check --publish-url", address, resp.Status, answer)
	}
	return nil
}

func (p *httpPublisher) close() { p.client.CloseIdleConnections() }

// schedule says when each publication of a phase is due.
type schedule struct {
	phase
	clock clock
	start int64   // on the clock
	rate  float64 // publications a second, of all publishers together; 0: all at once
	size  int     // payload bytes

	publishers int  // who send in turn; streams is a multiple of it
	object     bool // payloads are JSON objects
	content    Content
}

// due returns the time of the i-th publication, from 0.
func (s schedule) due(i int) int64 {
	if s.rate == 0 {
		return s.start
	}
	return s.start + int64(float64(i)/s.rate*float64(time.Second))
}

// end returns the time at which the n-th publication is due.
func (s schedule) end(n int) int64 { return s.due(n - 1) }

// of counts the publications in a stream after the one who publishes there has sent n.
func (s schedule) of(stream int, n uint32) uint32 {
	own := uint32(s.streams / s.publishers) // streams that it publishes in, in turn
	first := uint32(stream / s.publishers)  // its publications before the stream's first
	return (max(n, first) - first + own - 1) / own
}

// lateBound is how late a send may be before it counts as late: 10 ms, or a
// fifth of the interval when messages are sparse.
func (s schedule) lateBound() time.Duration {
	if s.rate == 0 {
		return latencyMax
	}
	interval := time.Duration(float64(s.publishers) / s.rate * float64(time.Second))
	return max(10*time.Millisecond, interval/5)
}

// sending is what one publisher did.
type sending struct {
	published uint32
	retries   int64
	late      *hdr.Histogram // microseconds behind what the generator could have done
	lateSends int64          // beyond lateBound
	blocked   time.Duration  // longest that the server kept a send waiting
	err       error
}

// stampAt is where a stamp lies in a payload that is a JSON object: {"s":"..."}.
const stampAt = 6

// objectMin is the least payload that is an object and holds a stamp.
const objectMin = stampAt + SizeMin + 2

// sizeMin is the least payload.
func (p Protocol) sizeMin() int {
	if p.dialect() != nil {
		return objectMin
	}
	return SizeMin
}

// blank returns a payload without its stamp, and where that lies.
func blank(size int, object bool) (payload []byte, at int) {
	payload = bytes.Repeat([]byte{'.'}, size)
	if object {
		at = copy(payload, `{"s":"`)
		copy(payload[size-2:], `"}`)
	}
	return payload, at
}

// publish sends one publisher's part of a schedule.
//
// A send is late by what separates it from an ideal generator, one that is never
// late but whose sends take as long as these did: what the server's push-back
// delays is not the generator's fault. Latency is measured from the due time in
// either case.
func (s schedule) publish(ctx context.Context, p publisher, publisher int) sending {
	// On cores that are shared with the receiving loops and the server, a
	// publisher must not queue behind them when its time has come. The thread is not
	// unlocked: it ends with the goroutine, and its priority with it.
	runtime.LockOSThread()
	sys.Hurry()
	out := sending{late: newLatency()}
	payloads, at := s.content.blanks(s.size, s.object, uint64(publisher))
	bound := s.lateBound()
	free := s.start // when the ideal generator is done with the send before
	for i := publisher; i < s.count; i += s.publishers {
		stream, seq := i%s.streams, i/s.streams
		due := s.due(i)
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
		payload := payloads[int(out.published)%len(payloads)]
		stamp{uint16(stream), uint32(seq), due}.put(payload[at:], s.mark)
		retries, err := p.send(ctx, stream, payload)
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

// sleepUntil waits for a time on the clock and returns the time that it is then;
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
		sys.Sleep(min(time.Duration(due-now), 50*time.Millisecond))
	}
}
