package gateway

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"sluice/gateway/control"
	"sluice/gateway/ops"
)

// Internal holds the settings of the internal listener.
type Internal struct {
	// APIKey, if set, is required in every request except those for health, as
	// "X-API-Key: KEY" or "Authorization: Bearer KEY", or of those who log in with it on the
	// operator's page. Without it, requests of other web pages, or with a Host other than this
	// machine, are refused, because a web page can send requests to a loopback port.
	APIKey string
	// Upgrade, if set, upgrades the server when a request asks for it: it calls [Server.Upgrade].
	Upgrade func(context.Context) (UpgradeReport, error)
	// Reload, if set, replaces the configuration when a request asks for it: it calls [Server.Reload]. The report is
	// written as JSON. Each line of an error's text is one fault.
	Reload func(context.Context, ReloadOptions) (report any, err error)
}

// ServeInternal serves the operator's page, the HTTP API, metrics, health checks and profiling on l until
// Shutdown, closes l, and returns [ErrServerClosed]. Clients must not be able to reach l.
func (s *Server) ServeInternal(l net.Listener, opt Internal) error {
	s.internalMu.Lock()
	s.internal = append(s.internal, l)
	s.internalMu.Unlock()
	defer func() {
		if s.relay.Moved() {
			<-s.set.Stopped() // others would take the end of Serve for a failure
		}
	}()
	if err := s.internalListener(opt, l.Addr().Network() == "unix").Serve(l); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return ErrServerClosed
}

// InternalHandler returns the handler that [Server.ServeInternal] serves, for programs that
// serve it themselves.
func (s *Server) InternalHandler(opt Internal) http.Handler {
	return s.internalListener(opt, false).Handler()
}

// SetAPIKey replaces the API key of all internal listeners, "" for none. Operators who are logged in to the page have
// to log in again.
func (s *Server) SetAPIKey(key string) {
	s.internalMu.Lock()
	defer s.internalMu.Unlock()
	for _, l := range s.listeners {
		l.SetAPIKey(key)
	}
}

func (s *Server) internalListener(opt Internal, unixSocket bool) *ops.Listener {
	out := &ops.Listener{
		Relay: s.relay, Sessions: &s.sessions, Abort: s.AbortUpgrade,
		Gateway: s.inside, APIKey: opt.APIKey, UnixSocket: unixSocket, MessageMax: s.cfg.MaxMessage, Logger: s.cfg.Logger, Metrics: ops.Collector(s.snapshot),
		Foreign: s.names.Text("without {APIKey}, only programs on this machine and the gateway's own page are served: requests of other web pages, or with a Host other than this machine, are refused"),
		API:     s.api, Events: &s.events, Stopped: s.set.Stopped(),
	}
	if opt.Upgrade != nil {
		out.Upgrade = func(ctx context.Context) (any, error) {
			report, err := opt.Upgrade(ctx)
			return report, upgradeRefusal(err)
		}
	}
	if opt.Reload != nil {
		out.Reload = func(ctx context.Context, revoke bool) (any, error) {
			report, err := opt.Reload(ctx, ReloadOptions{Revoke: revoke})
			return report, reloadRefusal(err)
		}
	}
	s.internalMu.Lock()
	defer s.internalMu.Unlock()
	s.listeners = append(s.listeners, out)
	return out
}

// reloadRefusal returns an error of a reload as the answer to the caller that has asked for it.
func reloadRefusal(err error) error {
	r := &ops.Refusal{Status: http.StatusConflict}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrUpgradeRunning):
		r.Code = "upgrade_running"
	case errors.Is(err, ErrUpgradeStopping):
		r.Code = "shutting_down"
	default:
		r.Status, r.Code = http.StatusUnprocessableEntity, "invalid"
		if onlyNeedsRestart(err) {
			r.Status, r.Code = http.StatusConflict, "needs_restart"
		}
		r.Faults = strings.Split(err.Error(), "\n")
	}
	r.Text = err.Error()
	return r
}

// upgradeRefusal returns an error of an upgrade as the answer to who has asked for it.
func upgradeRefusal(err error) error {
	r := &ops.Refusal{Status: http.StatusBadGateway, Code: "upgrade_failed"}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrUpgradeRunning):
		r.Status, r.Code = http.StatusConflict, "upgrade_running"
	case errors.Is(err, ErrUpgradeStopping):
		r.Status, r.Code = http.StatusConflict, "shutting_down"
	case errors.Is(err, ErrUpgradeInit):
		r.Status, r.Code = http.StatusConflict, "process_1"
	case errors.Is(err, ErrUpgradeAborted):
		r.Status, r.Code = http.StatusConflict, "aborted"
	case errors.Is(err, ErrUpgradeLost):
		r.Code = "upgrade_lost"
	}
	r.Text = err.Error()
	return r
}

// apiBodyMax bounds a request of the API: a message in base64, as JSON, with room for
// everything else, and a batch of small ones.
func apiBodyMax(message int) int64 { return max(4<<20, 8*int64(message)) }

// apiFailed logs what the caller of the API is only told is an internal error.
func (s *Server) apiFailed(method string, err error) {
	s.cfg.Logger.Error("API request failed", "method", method, "error", err.Error())
}

// snapshot returns what the metrics say.
func (s *Server) snapshot() *ops.Snapshot {
	edge := s.edge.Counts()
	out := &ops.Snapshot{
		Before: &s.before, Version: s.cfg.Version, Commit: s.cfg.Commit,
		Closed: make(map[string]uint64), Dropped: make(map[string]uint64), Handshakes: edge.Outcomes, Panics: edge.Panics,
		Emulation: edge.Posts, EmulationKept: edge.Kept, Secured: edge.Secured, Resumed: edge.Resumed, Addresses: edge.Addresses, Untracked: edge.Untracked, Descriptors: edge.Descriptors,
		MaxConnections: s.live.Load().MaxConnections, Draining: s.Draining(), MemoryLimit: s.memory.Limit, MemoryUsed: s.memory.Used.Load(), Suppressed: s.sampled.Suppressed(),
		HeldLogs: s.budget.Used(), HeldHistory: s.historyBudget.Used(), HeldEncoding: s.space.Encoding(), Channels: s.space.Channels(),
		Published: s.publisher.Accepted(), PushedBack: s.publisher.PushedBack.Load(), KernelMemory: -1,
	}
	out.Upgrades, out.Upgrading, out.UpgradesFailed = s.upgrades.done.Load(), s.upgrades.running(), s.upgrades.failed.Load()
	out.TakenOver, out.TakenOverFreeze = s.upgrades.taken.Load(), time.Duration(s.upgrades.frozen.Load())
	out.Reloads = s.reloads.snapshot()
	squeezed := s.compressors.Stats()
	out.CompressedFrom, out.CompressedTo, out.CompressorsBusy = squeezed.In, squeezed.Out, squeezed.Busy
	if s.cfg.CertificateExpiry != nil {
		out.CertificateExpiry = s.cfg.CertificateExpiry()
	}
	if bytes, ok := ops.KernelMemory(os.DirFS("/")); ok {
		out.KernelMemory = bytes
	}
	for o := range s.policy.Namespaces() {
		class := s.classes.of(o.Name)
		out.Namespaces = append(out.Namespaces, ops.Namespace{
			Name: o.Name, Channels: int64(s.space.ChannelsOf(class)), Publications: s.publisher.Published[class].Load(),
		})
	}
	out.Hooks = snapshotHooks(s.live.Load().Hooks)
	out.Webhooks = s.events.snapshot()
	control.SnapshotLoops(s.set, out)
	control.SnapshotEngine(s.engine.Engine, out)
	return out
}
