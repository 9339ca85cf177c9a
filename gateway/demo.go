package gateway

import (
	"net/http"
	"time"

	"sluice/gateway/ops"
	page "sluice/gateway/web"
)

// newDemo returns what answers the page's own requests, or nil where nobody's are answered.
func (s *Server) newDemo() func(http.ResponseWriter, *http.Request) bool {
	if s.cfg.Demo == DemoOff || s.cfg.WebRoot != "" || len(s.cfg.TrustedProxies)+len(s.cfg.ProxyProtocol) > 0 {
		return nil
	}
	return (&page.Demo{Numbers: s.numbers}).Serve
}

// numbers returns what the page's strip shows.
func (s *Server) numbers() page.Numbers {
	now, have := time.Now(), s.snapshot()
	n := page.Numbers{
		Time: now.UnixMilli(), Version: s.cfg.Version, Uptime: now.Sub(s.node.Started).Seconds(),
		Connections: s.edge.Counts().Connections, Published: have.Published + have.PublishedByClients,
		Latency:  page.Histogram{Bounds: []float64{}, Counts: []uint64{}},
		Visitors: page.Available{Reason: "This program brings no visitors."},
	}
	for i := range have.Loops {
		n.Delivered += have.Loops[i].Deliveries
	}
	process, _ := ops.Resident() // 0 where it is not known
	n.Memory = page.NewMemory(process, s.fixed, n.Connections)
	return n
}
