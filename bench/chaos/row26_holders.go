package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"
)

// heldRate is the part of the quiet rate that a channel must keep, once the gateway has had time
// to see who holds it back.
const heldRate = 0.95

func heldBack(r *Run) error {
	readers := Param(r, "readers", 20, 200)
	rate := Param(r, "messages_per_second", 400.0, 500.0)
	size := Param(r, "message_bytes", 2<<10, 2<<10)
	quiet := Param(r, "quiet", 500*time.Millisecond, 5*time.Second)
	settles := Param(r, "settles_in", 2*time.Second, 12*time.Second)
	window := Param(r, "window", 500*time.Millisecond, 6*time.Second)
	windows := Param(r, "windows", 2, 5)
	g := must(r.Start())
	good := must(r.Join(g, readers, ClientOptions{Name: "reader", Channel: "row", Whole: true}))
	// Beside it a channel that nobody holds back: what the machine does to both is not counted.
	must(r.Join(g, readers, ClientOptions{Name: "control", Channel: "control"}))
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	row, control := r.publisher(g, "row", size), r.publisher(g, "control", size)
	var working sync.WaitGroup
	failed := make(chan error, 2)
	for _, p := range []*Publisher{row, control} {
		working.Go(func() { failed <- p.steadily(ctx, rate) })
	}
	bad := &badReaders{ctx: ctx, addr: g.Public}
	measure := func(name string, d time.Duration) (ratio float64) {
		n, quiet, begin := row.count(), control.count(), time.Now()
		r.Pause(d) // its error ends the row below
		n, quiet = row.count()-n, control.count()-quiet
		r.Count(name+"_per_second", float64(n)/time.Since(begin).Seconds())
		r.Count(name+"_ratio", float64(n)/float64(max(quiet, 1)))
		return float64(n) / float64(max(quiet, 1))
	}
	measure("quiet", quiet)
	for _, c := range []struct {
		name  string
		begin func()
	}{
		{"one slow reader", func() { bad.join("/sse/row?format=json", int(rate)*size/4) }},
		{"new connections that never read", func() { working.Go(bad.keepComing) }},
	} {
		c.begin()
		measure(c.name+"_at_first", settles)
		for i := range windows {
			ratio := measure(fmt.Sprint(c.name, "_", i), window)
			if r.judgesSpeed() {
				r.Check(c.name, ratio >= heldRate, "window %d: %.2f times the rate of an undisturbed channel; at least %.2f required", i, ratio, heldRate)
			}
		}
	}
	cancel()
	bad.reading.Wait()
	working.Wait()
	for _, p := range []*Publisher{row, control} {
		orders, wrong := p.orders()
		r.orders = append(r.orders, orders...)
		noError(errors.Join(wrong, <-failed))
	}
	r.Settle(30 * time.Second)
	all := 0
	for _, c := range good {
		if c.Connected() {
			all++
		}
	}
	r.Check("healthy readers", all == readers, "%d of %d stayed to the end", all, readers)
	return r.JudgeClients(g)
}

// steadily publishes so many messages a second, each when the one before was taken: what was not
// published in time is not made up for.
func (p *Publisher) steadily(ctx context.Context, rate float64) error {
	interval := time.Duration(float64(time.Second) / rate)
	due := time.Now()
	for n := int64(0); ctx.Err() == nil; n++ {
		if err := p.publish(ctx, n); err != nil {
			return fmt.Errorf("publish into %s: %w", p.channel, err)
		}
		if due = due.Add(interval); time.Since(due) > 20*time.Millisecond {
			due = time.Now().Add(-20 * time.Millisecond)
		}
		time.Sleep(time.Until(due))
	}
	return nil
}

// count returns how many messages were published.
func (p *Publisher) count() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, entries := range p.entries {
		n += len(entries)
	}
	return n
}

// badReaders hold a channel back. What they get is nobody's account.
type badReaders struct {
	ctx     context.Context
	addr    string
	reading sync.WaitGroup
}

// join connects a reader that takes so many bytes a second, of whatever comes; 0: none.
func (b *badReaders) join(target string, rate int) {
	d := net.Dialer{Timeout: 5 * time.Second, Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 64<<10) // ignored: then it takes longer until it is behind
		})
	}}
	conn, err := d.DialContext(b.ctx, "tcp", b.addr)
	if err != nil {
		return // the gateway has enough of them, or the row is over
	}
	upgrade := "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
	if strings.HasPrefix(target, "/sse/") {
		upgrade = ""
	}
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", target, b.addr, upgrade) // ignored: a client that fails holds nobody back
	context.AfterFunc(b.ctx, func() { conn.Close() })                                   // ignored: it was never of use
	if rate == 0 {
		return
	}
	b.reading.Go(func() {
		p := &pace{}
		p.set(rate)
		io.Copy(io.Discard, bufio.NewReaderSize(&pacedReader{b.ctx, conn, p}, 16<<10)) // ignored: it ends as it likes
	})
}

// keepComing connects ten readers a second, in four formats, that never read.
func (b *badReaders) keepComing() {
	targets := []string{"/ws/row", "/ws/row?format=json", "/sse/row", "/sse/row?format=json"}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-tick.C:
			b.join(targets[i%len(targets)], 0)
		case <-b.ctx.Done():
			return
		}
	}
}
