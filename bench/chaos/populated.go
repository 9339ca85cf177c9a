package main

import "time"

// populated is clients and authors on a cluster: channels with history, and channels whose order is
// each node's own.
type populated struct {
	*Cluster
	clients []*Client
	crew    *Crew
}

// crowdOptions are the size of what populates a cluster.
type crowdOptions struct {
	clients, channels int // channels of each kind
	rate              float64
	size              int
}

// crowd returns the sizes of a row.
func (r *Run) crowd(short, long crowdOptions) crowdOptions {
	return crowdOptions{
		clients:  Param(r, "clients", short.clients, long.clients),
		channels: Param(r, "channels_of_each_kind", short.channels, long.channels),
		rate:     Param(r, "messages_per_second", short.rate, long.rate),
		size:     Param(r, "message_bytes", short.size, long.size),
	}
}

// populate connects clients to all gateways of a cluster, which come back to any of them, and begins
// to publish on all of them.
func (c *Cluster) populate(o crowdOptions) *populated {
	r := c.run
	p := &populated{Cluster: c}
	names := append(historyChannels(o.channels), liveChannels(o.channels)...)
	places := len(names) * len(c.started)
	for i, name := range names {
		for j, g := range c.started {
			k := i*len(c.started) + j
			n := o.clients*(k+1)/places - o.clients*k/places
			some := must(r.Join(g, n, ClientOptions{Name: name + "@" + g.Name, Channel: name, ComeBack: true, Nodes: c.started, Many: true, Numbered: i >= o.channels}))
			p.clients = append(p.clients, some...)
		}
	}
	p.crew = r.Write(c.started, names, o.rate, o.size)
	r.Say("%d clients of %d channels on %d gateways", len(p.clients), len(names), len(c.started))
	p.AwaitCurrent(p.clients)
	return p
}

// share returns the part of the recoveries that are complete.
func share(recovered, gaps int) float64 { return float64(recovered) / float64(max(recovered+gaps, 1)) }

// finish judges what was seen and what became of the clients that had to come back.
func (p *populated) finish(back time.Duration) {
	r := p.run
	p.Judge(p.crew, false)
	recovered, gaps := r.resumptions()
	r.Check("recovered", recovered+gaps == 0 || share(recovered, gaps) >= 0.999, "%d of %d that came back to a channel with history (%.4f)", recovered, recovered+gaps, share(recovered, gaps))
	all := 0
	for _, c := range p.clients {
		if c.numbers == nil {
			all += c.account.ends(Gap, -1)
		}
	}
	r.Check("kept", all-gaps == 0, "%d gap records in channels with history, but for those who came back", all-gaps)
	took := time.Duration(r.returns.ValueAtPercentile(99)) * time.Millisecond
	r.Check("back", took <= back, "%d clients came back, 99 %% of them within %v, at most %v", r.returns.TotalCount(), took, back)
}
