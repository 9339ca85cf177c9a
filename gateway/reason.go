package gateway

import (
	"sluice/gateway/centrifugo"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"
)

// reason is why a connection ends. It is at once the close code that the client sees, the
// label of sluice_connections_closed_total and the value in the log. A new way to end is a new row in reasons, and a test.
type reason uint8

const (
	reasonNone reason = iota
	reasonClientClose
	reasonClientGone
	reasonReset
	reasonAbandoned
	reasonTLS
	reasonProtocol
	reasonText
	reasonTooBig
	reasonFragments
	reasonMessageTimeout
	reasonMessageRate
	reasonControlRate
	reasonNotAllowed
	reasonNoPong
	reasonSlow
	reasonWriteTimeout
	reasonPendingFull
	reasonBudget
	reasonChannels
	reasonShutdown
	reasonPanic
	reasonInternal
	reasonOperator
	reasonRefused
	reasonExpired
	reasonInvalidToken
	reasonBadCommand
	reasonStale
	reasonChannelLimit
	reasonInsufficient
	reasonDisconnected
	reasonUnsubscribed
	reasonCount
)

// reasonInfo is a row of the table.
type reasonInfo struct {
	label string
	// code is sent in the Close frame; 0 if none is sent: the client is gone, or its own
	// Close is answered.
	code ws.StatusCode
	text string
	// client replaces code and text for clients of the Centrifugo protocol; nil if they
	// get the same as others.
	client *protocol.Disconnect
	// cut: the client is behind, so what was published before is not sent first.
	cut bool
	// waits: after our Close frame the client's own is waited for. Not where it
	// has come, or nothing sensible is to be expected.
	waits bool
	// loud: an operator wants to know without having asked, because the gateway has cut
	// off a client that wanted to stay.
	loud bool
}

var reasons = [reasonCount]reasonInfo{
	reasonNone:           {label: "none"},
	reasonClientClose:    {label: "client_close"},
	reasonClientGone:     {label: "client_gone"},
	reasonReset:          {label: "reset", cut: true},
	reasonAbandoned:      {label: "abandoned", cut: true},
	reasonTLS:            {label: "tls_error", cut: true},
	reasonProtocol:       {label: "protocol_error", code: ws.StatusProtocolError, text: "protocol error"},
	reasonText:           {label: "bad_utf8", code: ws.StatusInvalidFramePayloadData, text: "text is not UTF-8"},
	reasonTooBig:         {label: "message_too_big", code: ws.StatusMessageTooBig, text: "message too big"},
	reasonFragments:      {label: "too_many_fragments", code: ws.StatusPolicyViolation, text: "too many fragments"},
	reasonMessageTimeout: {label: "message_timeout", code: ws.StatusPolicyViolation, text: "message not finished in time", client: centrifugo.DisconnectBadRequest, loud: true},
	reasonMessageRate:    {label: "message_rate", code: ws.StatusPolicyViolation, text: "too many messages", client: centrifugo.DisconnectTooManyRequests, waits: true, loud: true},
	reasonControlRate:    {label: "control_rate", code: ws.StatusPolicyViolation, text: "too many control frames", client: centrifugo.DisconnectTooManyRequests, waits: true, loud: true},
	reasonNotAllowed:     {label: "not_allowed", code: ws.StatusPolicyViolation, text: "publishing is not allowed here", waits: true},
	reasonNoPong:         {label: "no_pong", code: ws.StatusPolicyViolation, text: "no response to ping", client: centrifugo.DisconnectNoPong, cut: true},
	reasonSlow:           {label: "slow", code: statusTryAgainLater, text: "too slow: the channel's buffer ran out", client: centrifugo.DisconnectSlow, cut: true, waits: true, loud: true},
	reasonWriteTimeout:   {label: "write_timeout", code: statusTryAgainLater, text: "too slow: no data accepted in time", client: centrifugo.DisconnectSlow, cut: true, waits: true, loud: true},
	reasonPendingFull:    {label: "pending_full", code: statusTryAgainLater, text: "too slow: too many pending replies", client: centrifugo.DisconnectSlow, cut: true, waits: true, loud: true},
	reasonBudget:         {label: "budget", code: statusTryAgainLater, text: "out of buffer memory", client: centrifugo.DisconnectSlow, cut: true, loud: true},
	reasonChannels:       {label: "too_many_channels", code: statusTryAgainLater, text: "too many channels", waits: true, loud: true},
	reasonShutdown:       {label: "shutdown", code: ws.StatusGoingAway, text: "server is shutting down", client: centrifugo.DisconnectShutdown, waits: true},
	reasonPanic:          {label: "panic", client: centrifugo.DisconnectServerError, code: ws.StatusInternalServerError, text: "internal error"},
	reasonInternal:       {label: "internal", code: ws.StatusInternalServerError, text: "internal error", client: centrifugo.DisconnectServerError, cut: true},
	reasonOperator:       {label: "operator", code: ws.StatusPolicyViolation, text: "closed by an operator", client: centrifugo.DisconnectForceNoReconnect, cut: true, waits: true, loud: true},
	reasonRefused:        {label: "refused", code: statusTryAgainLater, text: "over a limit: try again later", cut: true, waits: true},
	reasonExpired:        {label: "expired", code: ws.StatusCode(centrifugo.DisconnectExpired.Code), text: "connection expired", client: centrifugo.DisconnectExpired, waits: true},
	reasonInvalidToken:   {label: "invalid_token", client: centrifugo.DisconnectInvalidToken, waits: true, loud: true},
	reasonBadCommand:     {label: "bad_command", client: centrifugo.DisconnectBadRequest, waits: true},
	reasonStale:          {label: "stale", client: centrifugo.DisconnectStale, waits: true},
	reasonChannelLimit:   {label: "channel_limit", client: centrifugo.DisconnectChannelLimit, waits: true},
	reasonInsufficient:   {label: "insufficient_state", client: centrifugo.DisconnectInsufficientState, cut: true, waits: true},
	reasonDisconnected:   {label: "disconnected", code: ws.StatusPolicyViolation, text: "closed by the server's API", client: centrifugo.DisconnectForceNoReconnect, waits: true},
	reasonUnsubscribed:   {label: "unsubscribed"}, // of publications that a subscription did not get any more: no connection ends so
}

// statusTryAgainLater is 1013 of the IANA registry of close codes, which
// gobwas/ws does not name.
const statusTryAgainLater ws.StatusCode = 1013

// String returns the label.
func (r reason) String() string { return reasons[r].label }
