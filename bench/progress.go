package bench

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// progress rewrites one line of a terminal. Without a writer it does nothing.
type progress struct {
	w    io.Writer
	quit chan struct{}
	done chan struct{}

	mu   sync.Mutex
	line func() string
}

func newProgress(w io.Writer) *progress {
	p := &progress{w: w, quit: make(chan struct{}), done: make(chan struct{})}
	if w == nil {
		close(p.done)
		return p
	}
	go p.run()
	return p
}

// show sets what the line says from now on.
func (p *progress) show(line func() string) {
	p.mu.Lock()
	p.line = line
	p.mu.Unlock()
}

func (p *progress) run() {
	defer close(p.done)
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-p.quit:
			fmt.Fprint(p.w, "\r\x1b[K") // leave an empty line
			return
		case <-tick.C:
		}
		p.mu.Lock()
		line := p.line
		p.mu.Unlock()
		if line != nil {
			fmt.Fprintf(p.w, "\r\x1b[K%.79s", line())
		}
	}
}

// stop takes the line away. No line function runs afterwards.
func (p *progress) stop() {
	close(p.quit)
	<-p.done
}
