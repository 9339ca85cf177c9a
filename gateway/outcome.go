package gateway

import "sluice/gateway/edge/handshake"

// What a connection's first request comes to, beside the refusals, each of which is an outcome
// of its own (handshake.NewReject). Each connection has one, and an event stream two.
var (
	outcomeUpgraded = handshake.NewOutcome("upgraded")
	outcomeHTTP     = handshake.NewOutcome("http")
	outcomeStream   = handshake.NewOutcome("event_stream")

	outcomeTimeout   = handshake.NewOutcome("timeout")
	outcomeEvicted   = handshake.NewOutcome("evicted")    // its place was needed
	outcomeNoRequest = handshake.NewOutcome("no_request") // a port scan, a health check
	outcomeCutOff    = handshake.NewOutcome("cut_off")
	outcomeTLS       = handshake.NewOutcome("tls_failed")
	outcomeProxy     = handshake.NewOutcome("bad_proxy_header")
)
