package raw

// Access is what clients of raw WebSocket and SSE (/ws, /sse, /echo) may do.
type Access int

const (
	// AccessDefault is AccessPublish if only this machine can reach the listener and no
	// proxies are configured, and AccessListen otherwise. Serve decides by the address of
	// its listener. If Tokens or Namespaces is set, it decides instead.
	AccessDefault Access = iota
	// AccessPublish: clients may subscribe, and their messages are published in their channel.
	AccessPublish
	// AccessListen: clients may only subscribe. A client that sends a message to a channel is
	// disconnected with code 1008. /echo still works.
	AccessListen
	// AccessOff: the paths of raw WebSocket and SSE return 404.
	AccessOff
)

// String returns the setting as a word: "default", "publish", "listen" or "off".
func (r Access) String() string {
	switch r {
	case AccessPublish:
		return "publish"
	case AccessListen:
		return "listen"
	case AccessOff:
		return "off"
	}
	return "default"
}
