package main

import (
	"context"
	"net"
	"sync/atomic"
	"time"
)

// pace is how fast a client reads. It is set from any goroutine.
type pace struct{ now atomic.Pointer[paceState] }

type paceState struct {
	rate    int // bytes a second; 0: as they come; negative: none
	changed chan struct{}
}

func (p *pace) set(rate int) {
	if old := p.now.Swap(&paceState{rate, make(chan struct{})}); old != nil {
		close(old.changed)
	}
}

// pacedReader reads from a socket as fast as the client may.
type pacedReader struct {
	ctx  context.Context
	conn net.Conn
	pace *pace
}

// A trickling client reads every 100 ms, or in pieces of 4 KiB where that is more often.
const (
	paceStep  = 100 * time.Millisecond
	paceBytes = 4 << 10
)

func (r *pacedReader) Read(p []byte) (int, error) {
	for {
		s := r.pace.now.Load()
		switch {
		case s.rate == 0:
			return r.conn.Read(p)
		case s.rate > 0:
			step := min(paceStep, paceBytes*time.Second/time.Duration(s.rate))
			select {
			case <-time.After(step):
			case <-s.changed:
				continue
			case <-r.ctx.Done():
				return 0, r.ctx.Err()
			}
			return r.conn.Read(p[:min(len(p), max(int(float64(s.rate)*step.Seconds()), 1))])
		}
		select {
		case <-s.changed:
		case <-r.ctx.Done():
			return 0, r.ctx.Err()
		}
	}
}
