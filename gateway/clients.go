package gateway

import (
	"context"
	"time"

	"sluice/gateway/api"
	"sluice/gateway/centrifugo"
	"sluice/gateway/channel"
)

// Requests and results of what a program can do about clients and channels: those of the server's API
// (GET /api/openapi.json on the internal listener). Fields that the API refuses are refused here as well.
type (
	SubscribeRequest   = api.SubscribeRequest
	UnsubscribeRequest = api.UnsubscribeRequest
	DisconnectRequest  = api.DisconnectRequest
	RefreshRequest     = api.RefreshRequest
	HistoryRequest     = api.HistoryRequest
	ActionResult       = api.ActionResult
	PresenceResult     = api.PresenceResult
	HistoryResult      = api.HistoryResult
	// APIDisconnect is with what a client is closed.
	APIDisconnect = api.Disconnect
	// APIError is what is wrong with a request, or why it failed. See [errors.As].
	APIError = api.Error
)

// Subscribe subscribes the connections of a user, or one of them, to a channel. Like all of these methods it waits for the
// event loops: the filter of Config.Hooks must not call it, other hooks may.
func (s *Server) Subscribe(ctx context.Context, r SubscribeRequest) (ActionResult, error) {
	return checked(&r, func() (ActionResult, error) { return s.node.Subscribe(ctx, &r) })
}

// Unsubscribe ends subscriptions of a user's connections, to one channel or to all.
func (s *Server) Unsubscribe(ctx context.Context, r UnsubscribeRequest) (ActionResult, error) {
	return checked(&r, func() (ActionResult, error) { return s.node.Unsubscribe(ctx, &r) })
}

// Disconnect closes connections of a user.
func (s *Server) Disconnect(ctx context.Context, r DisconnectRequest) (ActionResult, error) {
	return checked(&r, func() (ActionResult, error) { return s.node.Disconnect(ctx, &r) })
}

// Refresh changes until when connections of a user may stay, and what others see of them.
func (s *Server) Refresh(ctx context.Context, r RefreshRequest) (ActionResult, error) {
	return checked(&r, func() (ActionResult, error) { return s.node.Refresh(ctx, &r) })
}

// Presence returns who is subscribed to a channel.
func (s *Server) Presence(ctx context.Context, channel string) (PresenceResult, error) {
	return s.node.Presence(ctx, channel)
}

// History returns what a channel has kept.
func (s *Server) History(ctx context.Context, r HistoryRequest) (HistoryResult, error) {
	return checked(&r, func() (HistoryResult, error) { return s.node.History(ctx, &r) })
}

// checked has a request carried out that is as it must be.
func checked[A any](r api.Request, do func() (A, error)) (a A, err error) {
	if err := api.Check(r); err != nil {
		return a, err
	}
	return do()
}

// closeOthersTimeout bounds how long closing a user's other connections takes.
const closeOthersTimeout = 10 * time.Second

// closeOthers closes connections of a user who may have only one, in the background.
func (s *Server) closeOthers(user string, others []*channel.ClientInfo) {
	s.background.Go(func() { // from a loop, and Shutdown waits for the loops first
		ctx, cancel := context.WithTimeout(context.Background(), closeOthersTimeout)
		defer cancel()
		d := centrifugo.DisconnectConnectionLimit
		for _, other := range others {
			r := &DisconnectRequest{User: user, Client: other.Client, Disconnect: &APIDisconnect{Code: d.Code, Reason: d.Reason}}
			if _, err := s.node.Disconnect(ctx, r); err != nil && !s.Draining() {
				s.cfg.Logger.Warn("another connection of a user could not be closed (single_connection)", "client", other.Client, "error", err)
			}
		}
	})
}
