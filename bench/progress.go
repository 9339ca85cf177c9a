package bench

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// progress rewrites one line of a terminal. Without a writer it does nothing.
type progress struct {
	line atomic.Pointer[func() string]
	stop func() // takes the line away; no function of show runs afterwards
}

func newProgress(w io.Writer) *progress {
	p := &progress{stop: func() {}}
	if w == nil {
		return p
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	p.stop = func() { cancel(); running.Wait() }
	running.Go(func() {
		for ; ctx.Err() == nil; wait(ctx, 500*time.Millisecond) {
			if line := p.line.Load(); line != nil {
				fmt.Fprintf(w, "\r\x1b[K%.79s", (*line)())
			}
		}
		fmt.Fprint(w, "\r\x1b[K") // leave an empty line
	})
	return p
}

// show sets what the line says from now on.
func (p *progress) show(line func() string) { p.line.Store(&line) }
