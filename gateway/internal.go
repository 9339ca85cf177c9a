package gateway

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"sluice/gateway/api"
	"sluice/gateway/channel"
	"sluice/gateway/sampling"
)

// publishWait is how long an HTTP publish waits for a channel that pushes back.
const publishWait = 250 * time.Millisecond

// Internal holds the settings of the internal listener.
type Internal struct {
	// APIKey, if set, is required in every request except those for health, as
	// "X-API-Key: KEY" or "Authorization: Bearer KEY". Without it, requests that have an
	// Origin, or whose Host is not this machine, are refused, because a web page can
	// send requests to a loopback port.
	APIKey string
}

// ServeInternal serves the HTTP API, metrics, health checks and profiling on l until
// Shutdown, closes l, and returns [ErrServerClosed]. Clients must not be able to reach l.
func (s *Server) ServeInternal(l net.Listener, opt Internal) error {
	if err := s.internalListener(opt, l.Addr().Network() == "unix").serve(l); !closedByUs(err) {
		return err
	}
	return ErrServerClosed
}

// InternalHandler returns the handler that [Server.ServeInternal] serves, for programs that
// serve it themselves.
func (s *Server) InternalHandler(opt Internal) http.Handler {
	return s.internalListener(opt, false).handler()
}

func (s *Server) internalListener(opt Internal, unixSocket bool) *internalListener {
	return &internalListener{
		gateway: (*inside)(s), apiKey: opt.APIKey, unixSocket: unixSocket, messageMax: s.cfg.MaxMessage, logger: s.cfg.Logger, metrics: collector{s},
		foreign: s.names.Text("without {APIKey}, only programs on this machine are served: requests with an Origin or a foreign Host are refused"),
		api:     api.New((*node)(s), api.Options{MaxBody: s.cfg.apiBodyMax(), OnError: s.apiFailed}), stopped: s.stopped,
	}
}

// inside is a gateway as its internal listener knows it.
type inside Server

// UnknownChannel implements operated.
func (n *inside) UnknownChannel(name string) error {
	if e := (*Server)(n).known(name); e == errUnknownChannel {
		return e.refusal(n.names)
	}
	return nil
}

// TooBig implements operated.
func (n *inside) TooBig() error { return errTooBig.refusal(n.names) }

// Publish implements operated.
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

// Connections implements operated.
func (n *inside) Connections(ctx context.Context, sort string, limit int) (any, error) {
	list, err := (*Server)(n).worst(ctx, sort, limit)
	if err != nil {
		return nil, inspectorRefusal(err)
	}
	return list, nil
}

// CloseConnection implements operated.
func (n *inside) CloseConnection(ctx context.Context, id uint64) (closed bool, err error) {
	if closed, err = (*Server)(n).closeConnection(ctx, id); err != nil {
		err = inspectorRefusal(err)
	}
	return closed, err
}

// inspectorRefusal is an error of the inspector as an operator sees it.
func inspectorRefusal(err error) *httpRefusal {
	r := &httpRefusal{status: http.StatusServiceUnavailable, code: "busy", text: err.Error()}
	switch err {
	case errBadSort:
		r.status, r.code = http.StatusBadRequest, "bad_sort"
	case errBadLimit:
		r.status, r.code = http.StatusBadRequest, "bad_limit"
	case errStopping:
		r.code = "shutting_down"
	}
	return r
}

// Health implements operated.
func (n *inside) Health() (status int, text string) {
	r := (*Server)(n).health()
	return r.Status, r.Text
}

// Readiness implements operated.
func (n *inside) Readiness() (status int, text string) {
	r := (*Server)(n).readiness()
	return r.Status, r.Text
}
