package gateway

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"sluice/gateway/api"
	"sluice/gateway/channel"
	"sluice/gateway/ops"
	"sluice/gateway/sampling"
)

// publishWait is how long an HTTP publish waits for a channel that pushes back.
const publishWait = 250 * time.Millisecond

// Internal holds the settings of the internal listener.
type Internal struct {
	// APIKey, if set, is required in every request except those for health, as
	// "X-API-Key: KEY" or "Authorization: Bearer KEY". Without it, requests with an
	// Origin header, or with a Host other than this machine, are refused, because a web page
	// can send requests to a loopback port.
	APIKey string
}

// ServeInternal serves the HTTP API, metrics, health checks and profiling on l until
// Shutdown, closes l, and returns [ErrServerClosed]. Clients must not be able to reach l.
func (s *Server) ServeInternal(l net.Listener, opt Internal) error {
	if err := s.internalListener(opt, l.Addr().Network() == "unix").Serve(l); !closedByUs(err) {
		return err
	}
	return ErrServerClosed
}

// InternalHandler returns the handler that [Server.ServeInternal] serves, for programs that
// serve it themselves.
func (s *Server) InternalHandler(opt Internal) http.Handler {
	return s.internalListener(opt, false).Handler()
}

func (s *Server) internalListener(opt Internal, unixSocket bool) *ops.Listener {
	return &ops.Listener{
		Gateway: (*inside)(s), APIKey: opt.APIKey, UnixSocket: unixSocket, MessageMax: s.cfg.MaxMessage, Logger: s.cfg.Logger, Metrics: collector{s},
		Foreign: s.names.Text("without {APIKey}, only programs on this machine are served: requests with an Origin header, or with a Host other than this machine, are refused"),
		API:     api.New((*node)(s), api.Options{MaxBody: s.cfg.apiBodyMax(), OnError: s.apiFailed}), Stopped: s.stopped,
	}
}

// inside is a gateway as its internal listener knows it.
type inside Server

// UnknownChannel implements ops.Gateway.
func (n *inside) UnknownChannel(name string) error {
	if e := (*Server)(n).known(name); e == errUnknownChannel {
		return e.refusal(n.names)
	}
	return nil
}

// TooBig implements ops.Gateway.
func (n *inside) TooBig() error { return errTooBig.refusal(n.names) }

// Publish implements ops.Gateway.
func (n *inside) Publish(ctx context.Context, name string, payload []byte, binary bool) (any, error) {
	receipt, err := (*Server)(n).publish(ctx, publishWait, name, channel.Publication{Payload: payload, Binary: binary})
	if n.cfg.Logger.Enabled(ctx, slog.LevelDebug) {
		n.cfg.Logger.Debug("published over HTTP", "channel", sampling.Quote(name), "bytes", len(payload), "offset", receipt.Offset, "subscribers", receipt.Subscribers, "error", err)
	}
	if err == nil {
		return receipt, nil
	}
	e := publishErrorOf(err)
	if e == errUnpublished {
		n.cfg.Logger.Error("publish failed", "error", err)
	}
	return nil, e.refusal(n.names)
}

// Connections implements ops.Gateway.
func (n *inside) Connections(ctx context.Context, sort string, limit int) (any, error) {
	list, err := (*Server)(n).worst(ctx, sort, limit)
	if err != nil {
		return nil, inspectorRefusal(err)
	}
	return list, nil
}

// CloseConnection implements ops.Gateway.
func (n *inside) CloseConnection(ctx context.Context, id uint64) (closed bool, err error) {
	if closed, err = (*Server)(n).closeConnection(ctx, id); err != nil {
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
	case errStopping:
		r.Code = "shutting_down"
	}
	return r
}

// Health implements ops.Gateway.
func (n *inside) Health() (status int, text string) {
	r := (*Server)(n).health()
	return r.Status, r.Text
}

// Readiness implements ops.Gateway.
func (n *inside) Readiness() (status int, text string) {
	r := (*Server)(n).readiness()
	return r.Status, r.Text
}
