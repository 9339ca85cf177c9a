package gateway

import (
	"context"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
)

// Receipt is the result of a publication: its position in its channel, and how many
// subscribers the channel had. In JSON and in text, its epoch has the form that
// clients see.
type Receipt = channel.Receipt

// The errors of [Server.Publish].
var (
	ErrBadChannel error = engine.BadChannel
	ErrBadText    error = engine.BadText
	ErrTooBig     error = engine.TooBig
	// ErrPushedBack is returned if the channel's log was full until the context ended.
	// Nothing was published; try again later.
	ErrPushedBack error = engine.PushedBack
	// ErrRate is returned if the channel's rate (Config.ChannelRate) was exceeded until
	// the context ended.
	ErrRate error = engine.RateReached
	// ErrUnavailable is returned if the engine is unavailable or did not answer in time. The
	// message may have been published.
	ErrUnavailable = engine.ErrUnavailable
)

// Publish publishes a message to its channel, and returns its position and the number of
// subscribers. It does not wait for delivery. While the channel's log is full
// it waits until ctx ends, then it returns [ErrPushedBack] or [ErrRate]. Other errors are
// [ErrBadChannel], [ErrBadText], [ErrTooBig] and [ErrUnavailable]. The payload is copied.
func (s *Server) Publish(ctx context.Context, m Message) (Receipt, error) {
	return s.publisher.Publish(ctx, 0, m.Channel, channel.Publication{Payload: m.Payload, Binary: m.Binary, From: m.Conn})
}
