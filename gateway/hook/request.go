package hook

// ConnectRequest asks whether a client without a token may connect, and as whom.
type ConnectRequest struct {
	Client        *Identity // without a User
	Data          []byte    // of the connect command; nil for none
	Name, Version string    // of the client's SDK
	Channels      []string  // to which it asks to be subscribed
}

// RefreshRequest asks whether a connection whose time is over may go on.
type RefreshRequest struct{ Client *Identity }

// SubscribeRequest asks whether a client may subscribe to a channel.
type SubscribeRequest struct {
	Client  *Identity
	Channel string
	Token   string // which was not verified; "" as a rule, because a token decides by itself
	Data    []byte // of the subscribe command; nil for none
}

// SubRefreshRequest asks whether a subscription whose time is over may go on.
type SubRefreshRequest struct {
	Client  *Identity
	Channel string
}

// PublishRequest asks whether a client may publish, and what.
type PublishRequest struct {
	Client  *Identity
	Channel string
	Data    []byte
}

// FilterRequest is a message that a client wants to publish.
type FilterRequest struct {
	Channel string
	Payload []byte // valid, and not to be changed, until Filter returns
	Binary  bool
	Conn    uint64 // the number of the connection, as in the server API
}

// RPCRequest is a request that the application answers.
type RPCRequest struct {
	Client *Identity
	Method string // "" for the unnamed one
	Data   []byte
}

// MessageRequest passes on what a client has sent to the application itself, and not to a channel: a "send" command.
type MessageRequest struct {
	Client *Identity
	Data   []byte
}

// DisconnectRequest notifies of the end of a connection for which a connect hook was asked.
type DisconnectRequest struct {
	Client *Identity
	Code   uint32 // of the Close frame or the disconnect push
	Reason string
}

// From implements Request.
func (q *ConnectRequest) From() *Identity { return q.Client }

// From implements Request.
func (q *RefreshRequest) From() *Identity { return q.Client }

// From implements Request.
func (q *SubscribeRequest) From() *Identity { return q.Client }

// From implements Request.
func (q *SubRefreshRequest) From() *Identity { return q.Client }

// From implements Request.
func (q *PublishRequest) From() *Identity { return q.Client }

// From implements Request.
func (q *RPCRequest) From() *Identity { return q.Client }

// From implements Request.
func (q *MessageRequest) From() *Identity { return q.Client }

// From implements Request.
func (q *DisconnectRequest) From() *Identity { return q.Client }
