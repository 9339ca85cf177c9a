package gateway

import (
	"io"
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
	most := min(visitorsMost, s.live.Load().MaxConnections)
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
		s.clean.Clean(now)
	}
	process, _ := ops.Resident() // 0 where it is not known
	n.Memory = page.NewMemory(process, s.fixed.Bytes.Load(), n.Connections)
	return n
}
