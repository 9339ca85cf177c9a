package gateway

import (
	"io"
	"runtime/debug"
	"sync/atomic"
	"time"

	"sluice/gateway/edge"
	"sluice/gateway/ops"
	page "sluice/gateway/web"
)

// visitorsMost is the largest number of visitors that the demo page can bring.
const visitorsMost = 1000

// newDemo returns what answers the page's own requests, or nil where nobody's are answered.
func (s *Server) newDemo() edge.Demo {
	if s.cfg.Demo == DemoOff || s.cfg.WebRoot != "" || len(s.cfg.TrustedProxies)+len(s.cfg.ProxyProtocol) > 0 {
		return nil
	}
	return page.NewDemo(s.numbers, s.startVisitors).Serve
}

func (s *Server) startVisitors() (io.ReadWriteCloser, error) {
	process, err := s.cfg.Visitors()
	if err != nil {
		s.cfg.Logger.Warn("the demo page's visitors could not be started", "error", err.Error())
	}
	return process, err
}

// visitors reports whether the page can bring visitors.
func (s *Server) visitors() page.Available {
	most := min(visitorsMost, s.cfg.MaxConnections)
	if limit := s.cfg.MaxPerAddress; limit > 0 {
		most = min(most, limit)
	}
	switch {
	case s.cfg.Visitors == nil:
		return page.Available{Reason: "This program brings no visitors."}
	case s.cfg.Raw == RawOff:
		return page.Available{Reason: s.names.Text("Visitors need raw WebSocket, which {Raw} turns off.")}
	}
	return page.Available{Available: true, Most: most}
}

// numbers returns what the page's strip shows.
func (s *Server) numbers() page.Numbers {
	now, have := time.Now(), s.snapshot()
	n := page.Numbers{
		Time: now.UnixMilli(), Version: s.cfg.Version, Uptime: now.Sub(s.node.Started).Seconds(),
		Connections: s.edge.Counts().Connections, Published: have.Published + have.PublishedByClients,
		Visitors: s.visitors(),
	}
	var latency ops.Histogram
	for i := range have.Loops {
		n.Delivered += have.Loops[i].Deliveries
		latency.Add(have.Loops[i].Delivery)
	}
	n.Latency = page.Histogram{Bounds: latency.Bounds, Counts: latency.Counts}
	if n.Connections >= page.Measurable {
		s.clean.clean(now)
	}
	process, _ := ops.Resident() // 0 where it is not known
	n.Memory = page.NewMemory(process, s.fixed.bytes.Load(), n.Connections)
	return n
}

// cleaner gives garbage back to the kernel, a few milliseconds of work. A thousand connections
// need less memory than the garbage of a process that was busy: divided by them, it would be most of the figure.
type cleaner struct {
	last atomic.Int64 // Unix milliseconds
}

const cleanEvery = 5 * time.Second

func (c *cleaner) clean(now time.Time) {
	last := c.last.Load()
	if now.UnixMilli()-last >= cleanEvery.Milliseconds() && c.last.CompareAndSwap(last, now.UnixMilli()) {
		debug.FreeOSMemory()
	}
}

// fixedMemory is what the process needs without clients: what it used last before many came. What it
// uses after they have gone says nothing, because memory is kept for the next ones.
type fixedMemory struct {
	bytes atomic.Int64 // 0 if not known
	past  bool         // owned by the goroutine that looks
}

// fewConnections have no share of memory that is worth mentioning.
const fewConnections = 100

// look looks at the memory, unless there are or were more than a few connections.
func (m *fixedMemory) look(connections int64) {
	if m.past = m.past || connections > fewConnections; m.past {
		return
	}
	if n, ok := ops.Resident(); ok {
		m.bytes.Store(n)
	}
}
