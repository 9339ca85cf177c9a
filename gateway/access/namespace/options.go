package namespace

import (
	"regexp"
	"time"
)

// Bounds of options.
const (
	historySizeMax = 1 << 20
	historyTTLMin  = time.Second
	namespacesMax  = 1000
)

// RecoveryMode is what a subscriber that recovers is sent.
type RecoveryMode uint8

const (
	Stream RecoveryMode = iota // everything it missed
	Cache                      // only the newest publication
)

// String returns the mode as it is written in a file.
func (m RecoveryMode) String() string {
	if m == Cache {
		return "cache"
	}
	return "stream"
}

// Options are the options of the channels in a namespace. With the zero value there is no
// history, and clients may do nothing. A field is named like its option in the file,
// without underscores.
type Options struct {
	Name string // of the namespace; "" for channels without one

	// How many publications a channel keeps, at most 1,048,576, and for how long, at least
	// 1 s. Both are zero if there is no history.
	HistorySize int
	HistoryTTL  time.Duration
	// Whether the history is stored, if the gateway has a store; else it is in memory. nil: it is. See
	// Stored.
	Durable *bool

	// What a subscriber gets always (Force) or on request (Allow); see Recovers and
	// Positions.
	ForceRecovery     bool
	AllowRecovery     bool
	ForcePositioning  bool
	AllowPositioning  bool
	ForceRecoveryMode RecoveryMode // applies to every recovery, forced or requested

	Presence           bool // clients can ask who is subscribed
	JoinLeave          bool // subscribers are notified of joins and leaves
	ForcePushJoinLeave bool // even without asking for it; see PushesJoinLeave

	// Permissions; see Allows.
	AllowSubscribeForClient    bool
	AllowSubscribeForAnonymous bool
	AllowPublishForClient      bool
	AllowPublishForSubscriber  bool
	AllowPublishForAnonymous   bool
	AllowPresenceForClient     bool
	AllowPresenceForSubscriber bool
	AllowPresenceForAnonymous  bool
	AllowHistoryForClient      bool
	AllowHistoryForSubscriber  bool
	AllowHistoryForAnonymous   bool

	// Which hooks are asked, in place of the permissions above. A name is "" for the hook called
	// "default"; it is set only beside Enabled.
	SubscribeProxyEnabled  bool
	SubscribeProxyName     string
	PublishProxyEnabled    bool
	PublishProxyName       string
	SubRefreshProxyEnabled bool
	SubRefreshProxyName    string

	// ChannelRegex, if set, has to match the names that clients use, behind the namespace and its ':'; see Fits.
	ChannelRegex *regexp.Regexp

	AllowUserLimitedChannels bool // '#' in a name lists users; see MaySubscribe
	AllowRawPublish          bool // clients of raw WebSocket may publish too, if Allows reports so
}

// Stored reports whether channels have a history that is stored, if the gateway has a store.
func (o *Options) Stored() bool { return o.HistorySize > 0 && (o.Durable == nil || *o.Durable) }

// An option is an option that a file may have. Exactly one of flag and read is set.
type option struct {
	name string
	flag func(*Options) *bool               // for an option that is true or false
	read func(o *Options, raw string) error // for any other; raw is the value's JSON
}

// known are the options that sluice supports, in the order in which they are suggested.
var known = []option{
	{name: "history_size", read: readHistorySize},
	{name: "history_ttl", read: readHistoryTTL},
	{name: "durable", read: readDurable},
	{name: "force_recovery", flag: func(o *Options) *bool { return &o.ForceRecovery }},
	{name: "allow_recovery", flag: func(o *Options) *bool { return &o.AllowRecovery }},
	{name: "force_positioning", flag: func(o *Options) *bool { return &o.ForcePositioning }},
	{name: "allow_positioning", flag: func(o *Options) *bool { return &o.AllowPositioning }},
	{name: "force_recovery_mode", read: readRecoveryMode},
	{name: "presence", flag: func(o *Options) *bool { return &o.Presence }},
	{name: "join_leave", flag: func(o *Options) *bool { return &o.JoinLeave }},
	{name: "force_push_join_leave", flag: func(o *Options) *bool { return &o.ForcePushJoinLeave }},
	{name: "allow_subscribe_for_client", flag: func(o *Options) *bool { return &o.AllowSubscribeForClient }},
	{name: "allow_subscribe_for_anonymous", flag: func(o *Options) *bool { return &o.AllowSubscribeForAnonymous }},
	{name: "allow_publish_for_client", flag: func(o *Options) *bool { return &o.AllowPublishForClient }},
	{name: "allow_publish_for_subscriber", flag: func(o *Options) *bool { return &o.AllowPublishForSubscriber }},
	{name: "allow_publish_for_anonymous", flag: func(o *Options) *bool { return &o.AllowPublishForAnonymous }},
	{name: "allow_presence_for_client", flag: func(o *Options) *bool { return &o.AllowPresenceForClient }},
	{name: "allow_presence_for_subscriber", flag: func(o *Options) *bool { return &o.AllowPresenceForSubscriber }},
	{name: "allow_presence_for_anonymous", flag: func(o *Options) *bool { return &o.AllowPresenceForAnonymous }},
	{name: "allow_history_for_client", flag: func(o *Options) *bool { return &o.AllowHistoryForClient }},
	{name: "allow_history_for_subscriber", flag: func(o *Options) *bool { return &o.AllowHistoryForSubscriber }},
	{name: "allow_history_for_anonymous", flag: func(o *Options) *bool { return &o.AllowHistoryForAnonymous }},
	{name: "subscribe_proxy_enabled", flag: func(o *Options) *bool { return &o.SubscribeProxyEnabled }},
	{name: "subscribe_proxy_name", read: readName(func(o *Options) *string { return &o.SubscribeProxyName })},
	{name: "publish_proxy_enabled", flag: func(o *Options) *bool { return &o.PublishProxyEnabled }},
	{name: "publish_proxy_name", read: readName(func(o *Options) *string { return &o.PublishProxyName })},
	{name: "sub_refresh_proxy_enabled", flag: func(o *Options) *bool { return &o.SubRefreshProxyEnabled }},
	{name: "sub_refresh_proxy_name", read: readName(func(o *Options) *string { return &o.SubRefreshProxyName })},
	{name: "channel_regex", read: readRegex},
	{name: "allow_user_limited_channels", flag: func(o *Options) *bool { return &o.AllowUserLimitedChannels }},
	{name: "allow_raw_publish", flag: func(o *Options) *bool { return &o.AllowRawPublish }},
}

const (
	noStream = "asks no backend for streams (use a subscribe hook, and publish by the server API)"
	noProxy  = "reads its hooks from a file of their own"
	noDelta  = "sends whole publications, never deltas"
	noMap    = "supports only channels with a history of publications"
	noFilter = "does not inspect publications"
	noMeta   = "keeps a channel's epoch and offset for as long as the channel exists"
	fixed    = "always uses ':', '#', ',' and '$' here"
)

// foreign are the options of Centrifugo's namespaces that sluice does not support, each
// with what sluice does instead.
var foreign = map[string]string{
	"history_meta_ttl":                     noMeta,
	"auto_cache_recover":                   "recovers only when the client asks for it",
	"allowed_delta_types":                  noDelta,
	"delta_publish":                        noDelta,
	"keep_latest_publication":              noDelta,
	"allow_tags_filter":                    noFilter,
	"publication_data_format":              noFilter,
	"subscribe_stream_proxy_enabled":       noStream,
	"subscribe_stream_proxy_name":          noStream,
	"subscribe_stream_proxy_bidirectional": noStream,
	"subscribe_stream_bidirectional":       noStream,
	"state_proxy_enabled":                  "does not notify a backend of the channels in use",
	"subscription_type":                    noMap,
	"map":                                  noMap,
	"shared_poll":                          noMap,
	"map_clients_presence_channel_prefix":  noMap,
	"map_users_presence_channel_prefix":    noMap,
}

// foreignAbove are the options that Centrifugo has next to without_namespace and
// namespaces.
var foreignAbove = map[string]string{
	"proxy":                   noProxy,
	"history_meta_ttl":        noMeta,
	"publication_data_format": noFilter,
	"max_length":              "has one limit for all channel names",
	"private_prefix":          fixed,
	"namespace_boundary":      fixed,
	"user_boundary":           fixed,
	"user_separator":          fixed,
}
