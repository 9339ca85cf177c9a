package hook

import "net/netip"

// Hooks are an application's hooks. One that is nil is not there.
type Hooks struct {
	Connect    Hook[*ConnectRequest, ConnectResult]
	Refresh    Hook[*RefreshRequest, RefreshResult]
	Subscribe  Hook[*SubscribeRequest, SubscribeResult]
	SubRefresh Hook[*SubRefreshRequest, SubRefreshResult]
	Publish    Hook[*PublishRequest, PublishResult]
	RPC        Hook[*RPCRequest, RPCResult]
	// Message gets what clients send to the application. There is no reply: an error or a failure closes the connection, as
	// a disconnect does. Without this hook, a client that sends something is disconnected. There is none over HTTP.
	Message Hook[*MessageRequest, MessageResult]
	// Disconnect is only notified: what it answers has no effect. A process that ends notifies
	// of nothing.
	Disconnect Hook[*DisconnectRequest, DisconnectResult]
	// Filter is called with each message of a client before it is published and before Publish is asked, and reports
	// whether it may be. It is for what is decided at once: it runs on the client's event loop and must not
	// block, because every connection of that loop waits for it. Who the client is, only Publish learns.
	Filter func(m FilterRequest) (publish bool)
}

// Request is one of the requests of this package.
type Request interface {
	// From returns who the client is.
	From() *Identity
}

// Hook decides about an event. It is safe for concurrent use.
type Hook[Q Request, A any] interface {
	// Ask asks for a decision. It does not block. answer is called exactly once, on any
	// goroutine, possibly before Ask returns; it must not block. Once cancel has returned, answer
	// will not be called, though a call of it may have begun before. cancel may be called at any
	// time and more than once.
	Ask(q Q, answer func(*A, error)) (cancel func())
}

// Later is a Hook whose calls can wait without their requests, which are larger than what they are made of. Those of this package
// are.
type Later[Q Request, A any] interface {
	Hook[Q, A]
	// AskLater is Ask with a request that is made when the call begins, on any goroutine; never if it does not come to that.
	// peer is the client's address.
	AskLater(peer netip.Addr, request func() Q, answer func(*A, error)) (cancel func())
}

// AskLater asks h, with a request that is made when it is needed.
func AskLater[Q Request, A any](h Hook[Q, A], peer netip.Addr, request func() Q, answer func(*A, error)) (cancel func()) {
	if l, ok := h.(Later[Q, A]); ok {
		return l.AskLater(peer, request, answer)
	}
	return h.Ask(request(), answer)
}
