package hook

// Selection is which hooks the channels of a namespace have. Its fields are named like the
// namespace's options.
type Selection struct {
	SubscribeProxyEnabled  bool
	SubscribeProxyName     string // "" for Default, as all names
	PublishProxyEnabled    bool
	PublishProxyName       string
	SubRefreshProxyEnabled bool
	SubRefreshProxyName    string
}

// Default is the name of the hook that is used where none is named.
const Default = "default"
