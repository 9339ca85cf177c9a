package main

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// proxy is a TCP proxy of a row that does to connections what networks do: it
// cuts bytes into small segments, delays them, resets, and closes one half.
type proxy struct {
	// Set at construction.
	faults proxyFaults
	to     string
	seed   uint64
	listen net.Listener

	// Atomic.
	wild             atomic.Bool // else it only carries
	resets, halves   atomic.Int64
	chopped, carried atomic.Int64 // segments of one byte, bytes

	working sync.WaitGroup

	mu    sync.Mutex
	links map[*link]struct{} // guarded by mu
	ended bool               // guarded by mu; it takes nobody any more
	drawn uint64             // guarded by mu; random sources so far
}

// proxyFaults is how wild a proxy is.
type proxyFaults struct {
	Life  time.Duration // of a connection on average, while the proxy is wild
	Half  float64       // the part of the ends that close one half alone; the others are resets
	Delay time.Duration // most, of what is read at a time
	Chop  float64       // the part of the reads whose first bytes go out one by one ...
	Bytes int           // ... this many of them
}

// link is a connection through the proxy. Each direction has a goroutine of its own.
type link struct {
	proxy            *proxy
	client, upstream *net.TCPConn
	ends             *time.Timer
}

// newProxy makes a proxy to addr, which carries until Rage.
func newProxy(addr string, seed uint64, f proxyFaults) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{faults: f, to: addr, seed: seed, listen: l, links: map[*link]struct{}{}}
	p.working.Go(p.accept)
	return p, nil
}

func (p *proxy) accept() {
	for {
		c, err := p.listen.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no descriptor: whoever waits may wait a little more
			time.Sleep(10 * time.Millisecond)
			continue
		}
		p.working.Go(func() { p.carry(c.(*net.TCPConn)) })
	}
}

// carry connects a client to the gateway, and returns when both directions have ended.
func (p *proxy) carry(client *net.TCPConn) {
	upstream, err := net.Dial("tcp", p.to)
	if err != nil {
		reset(client)
		return
	}
	k := &link{proxy: p, client: client, upstream: upstream.(*net.TCPConn)}
	p.mu.Lock()
	p.drawn++
	random := rand.New(rand.NewPCG(p.seed, p.drawn))
	other := rand.New(rand.NewPCG(random.Uint64(), 1))
	if p.ended {
		k.kill()
	}
	p.links[k] = struct{}{}
	p.arm(k, random)
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { k.copy(k.upstream, k.client, random) })
	both.Go(func() { k.copy(k.client, k.upstream, other) })
	both.Wait()
	p.mu.Lock()
	delete(p.links, k)
	if k.ends != nil {
		k.ends.Stop()
	}
	p.mu.Unlock()
	client.Close()   // ignored: both directions have ended
	upstream.Close() // ignored: as above
}

// arm draws a link's end, where the proxy is wild. p.mu is held.
func (p *proxy) arm(k *link, random *rand.Rand) {
	if !p.wild.Load() {
		return
	}
	half, upwards := random.Float64() < p.faults.Half, random.IntN(2) == 0
	k.ends = time.AfterFunc(time.Duration(random.ExpFloat64()*float64(p.faults.Life)), func() {
		switch {
		case !p.wild.Load():
		case !half:
			p.resets.Add(1)
			k.kill()
		case upwards:
			p.halves.Add(1)
			k.upstream.CloseWrite() // ignored: it has ended
		default:
			p.halves.Add(1)
			k.client.CloseWrite() // ignored: as above
		}
	})
}

// Rage begins the faults, Calm ends them.
func (p *proxy) Rage() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wild.Store(true)
	for k := range p.links {
		p.drawn++
		p.arm(k, rand.New(rand.NewPCG(p.seed, p.drawn)))
	}
}

func (p *proxy) Calm() { p.wild.Store(false) }

// Close ends the proxy and all its connections.
func (p *proxy) Close() {
	p.listen.Close() // ignored: it is open
	p.mu.Lock()
	p.ended = true
	for k := range p.links {
		k.kill()
	}
	p.mu.Unlock()
	p.working.Wait()
}

// kill resets both sides.
func (k *link) kill() {
	reset(k.client)
	reset(k.upstream)
}

// reset closes with a reset and not with an orderly end.
func reset(c *net.TCPConn) {
	c.SetLinger(0) // ignored: it has ended
	c.Close()      // ignored: as above
}

// copy carries one direction to its end, and that end to the other side.
func (k *link) copy(to, from *net.TCPConn, random *rand.Rand) {
	p, buffer := k.proxy, make([]byte, 4<<10)
	for {
		n, err := from.Read(buffer)
		b := buffer[:n]
		p.carried.Add(int64(n))
		if n > 0 && p.wild.Load() {
			time.Sleep(time.Duration(random.Int64N(int64(p.faults.Delay) + 1)))
			if random.Float64() < p.faults.Chop {
				for range min(p.faults.Bytes, len(b)) {
					p.chopped.Add(1)
					if _, err := to.Write(b[:1]); err != nil {
						break // the next write tells
					}
					b = b[1:]
				}
			}
		}
		if len(b) > 0 {
			if _, wrong := to.Write(b); wrong != nil {
				k.kill()
				return
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			to.CloseWrite() // ignored: it has ended
			return
		case err != nil:
			k.kill()
			return
		}
	}
}
