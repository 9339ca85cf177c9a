package control

import (
	"context"
	"log/slog"
	"net/http"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
	"sluice/gateway/loop"
	"sluice/gateway/ops"
	"sluice/gateway/sampling"
	"sluice/gateway/setting"
)

// Inside is the gateway as its internal listener knows it: an ops.Gateway.
type Inside struct {
	Node     *Node
	Ready    func() bool   // connections are accepted
	Draining func() bool   // the server shuts down
	Waits    func() string // what the start still waits for; "" for nothing
	Names    setting.Names
	Logger   *slog.Logger
}

// UnknownChannel implements ops.Gateway.
func (n *Inside) UnknownChannel(name string) error {
	if channel.ValidName(name) && n.Node.Policy.Options(name) == nil {
		return n.refusal(engine.UnknownChannel)
	}
	return nil
}

// refusals are the answers to POST /publish for publish faults; the text is the fault's.
var refusals = [engine.FaultCount]ops.Refusal{
	engine.BadChannel:     {Status: http.StatusBadRequest, Code: "bad_channel"},
	engine.UnknownChannel: {Status: http.StatusNotFound, Code: "unknown_channel"},
	engine.BadText:        {Status: http.StatusBadRequest, Code: "bad_text"},
	engine.TooBig:         {Status: http.StatusRequestEntityTooLarge, Code: "too_large"},
	engine.Unfit:          {Status: http.StatusRequestEntityTooLarge, Code: "too_large"},
	engine.RateReached:    {Status: http.StatusTooManyRequests, Code: "rate", Retry: true},
	engine.PushedBack:     {Status: http.StatusServiceUnavailable, Code: "pushed_back", Retry: true},
	engine.Unavailable:    {Status: http.StatusServiceUnavailable, Code: "unavailable", Retry: true},
	engine.Away:           {Status: http.StatusServiceUnavailable, Code: "unavailable", Retry: true},
	engine.Unpublished:    {Status: http.StatusInternalServerError, Code: "internal"},
}

// refusal returns the answer to POST /publish for a publish fault.
func (n *Inside) refusal(f engine.Fault) *ops.Refusal {
	r := refusals[f]
	r.Text = n.Names.Text(f.Text())
	return &r
}

// TooBig implements ops.Gateway.
func (n *Inside) TooBig() error { return n.refusal(engine.TooBig) }

// Publish implements ops.Gateway.
func (n *Inside) Publish(ctx context.Context, name string, payload []byte, binary bool) (any, error) {
	receipt, err := n.Node.Publisher.Publish(ctx, PublishWait, name, channel.Publication{Payload: payload, Binary: binary})
	if n.Logger.Enabled(ctx, slog.LevelDebug) {
		var why any
		if err != nil {
			why = n.Names.ErrorText(err)
		}
		n.Logger.Debug("published over HTTP", "channel", sampling.Quote(name), "bytes", len(payload), "offset", receipt.Offset, "subscribers", receipt.Subscribers, "error", why)
	}
	if err == nil {
		return receipt, nil
	}
	f := engine.FaultOf(err)
	if f == engine.Unpublished {
		n.Logger.Error("publish failed", "error", err)
	}
	return nil, n.refusal(f)
}

// Connections implements ops.Gateway.
func (n *Inside) Connections(ctx context.Context, sort string, limit int) (any, error) {
	list, err := n.Node.worst(ctx, sort, limit)
	if err != nil {
		return nil, inspectorRefusal(err)
	}
	return list, nil
}

// CloseConnection implements ops.Gateway.
func (n *Inside) CloseConnection(ctx context.Context, id uint64) (closed bool, err error) {
	if closed, err = n.Node.closeConnection(ctx, id); err != nil {
		err = inspectorRefusal(err)
	}
	return closed, err
}

// inspectorRefusal is an error of the inspector as an operator sees it.
func inspectorRefusal(err error) *ops.Refusal {
	r := &ops.Refusal{Status: http.StatusServiceUnavailable, Code: "busy", Text: err.Error()}
	switch err {
	case errBadSort:
		r.Status, r.Code = http.StatusBadRequest, "bad_sort"
	case errBadLimit:
		r.Status, r.Code = http.StatusBadRequest, "bad_limit"
	case loop.ErrStopping:
		r.Code = "shutting_down"
	}
	return r
}

// Health implements ops.Gateway.
func (n *Inside) Health() (status int, text string) {
	return ops.Health(n.Node.Set.Stalled() >= loop.UnhealthyAfter)
}

// Readiness implements ops.Gateway.
func (n *Inside) Readiness() (status int, text string) {
	return ops.Readiness(n.Draining(), n.Ready(), n.Waits(), n.Node.Set.Stalled() >= loop.UnreadyAfter)
}

// SnapshotLoops adds what the metrics say of the loops.
func SnapshotLoops(s *loop.Set, out *ops.Snapshot) {
	for _, l := range s.Loops() {
		st := l.Stats()
		out.Loops = append(out.Loops, ops.Loop{
			Connections: st.Connections.Load(), Closing: st.Closing.Load(), Blocked: st.Blocked.Load(), Users: st.Users.Load(), Subscriptions: st.Subscriptions(),
			Messages: st.Messages.Load(), Deliveries: st.Deliveries.Load(), BytesIn: st.BytesIn.Load(), BytesOut: st.BytesOut.Load(),
			Writes: st.Writes.Load(), Sweeps: st.Sweeps.Load(), Blockings: st.Blockings.Load(), Pings: st.Pings.Load(), Panics: st.Panics.Load(),
			Recoveries: st.Recoveries.Load(), Gaps: st.Gaps.Load(), Recalled: st.Recalled.Load(), Skips: st.Skips.Load(), Subscribed: st.Subscribed.Load(),
			Lag: histogram(&st.Lag), Delivery: histogram(&st.Delivery),
		})
		out.HeldConnections += st.Held.Load()
		out.DrainTotal += st.Draining.Load()
		out.PublishedByClients += st.Publications()
		out.PushedBackClients += st.PushBacks.Load()
		for i := range out.Namespaces {
			out.Namespaces[i].Subscriptions += st.ByClass[i].Subscriptions.Load()
			out.Namespaces[i].Publications += st.ByClass[i].Publications.Load()
		}
		for r := loop.ReasonNone + 1; r < loop.ReasonCount; r++ {
			if r != loop.ReasonUnsubscribed { // a subscription ends so, not a connection
				out.Closed[r.String()] += st.Closed[r].Load()
			}
			out.Dropped[r.String()] += st.Dropped[r].Load()
		}
		out.Dropped["skip"] += st.Dropped[loop.DroppedBySkip].Load()
	}
}

// SnapshotEngine adds what the metrics say of the engine, if there is something to say.
func SnapshotEngine(e engine.Engine, out *ops.Snapshot) {
	r, ok := e.(engine.Reporter)
	if !ok {
		return
	}
	s := r.Stats()
	out.Engine = &ops.Engine{
		Parts: make(map[string]bool, len(s.Parts)), Away: s.Away.Seconds(), AwayTotal: s.AwayTotal.Seconds(), Lag: s.Lag.Seconds(),
		Pending: s.Pending, PendingBytes: s.PendingBytes, Waiting: s.Waiting, Stored: s.Stored, CaughtUp: s.CaughtUp, Resubscribed: s.Resubscribed,
		Gaps: s.Gaps, Nodes: s.Nodes, Unanswered: s.Unanswered,
	}
	for _, p := range s.Parts {
		out.Engine.Parts[p.Name] = p.Up
	}
}

// latencyBounds are the bounds of all histograms, in seconds.
var latencyBounds = func() (bounds []float64) {
	for _, b := range loop.LatencyBounds {
		bounds = append(bounds, b.Seconds())
	}
	return bounds
}()

func histogram(h *loop.Histogram) ops.Histogram {
	counts, sum := h.Load()
	return ops.Histogram{Bounds: latencyBounds, Counts: counts, Sum: sum.Seconds()}
}
