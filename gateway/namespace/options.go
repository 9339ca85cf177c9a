package namespace

import "time"

// Bounds of options.
const (
	historySizeMax = 1 << 20
	historyTTLMin  = time.Second
	namespacesMax  = 1000
)

// RecoveryMode is what a subscriber that comes back is sent.
type RecoveryMode uint8

const (
	Stream RecoveryMode = iota // all that it missed
	Cache                      // the newest publication only
)

// String gives the mode as a file has it.
func (m RecoveryMode) String() string {
	if m == Cache {
		return "cache"
	}
	return "stream"
}

// Options is what holds for the channels of a namespace. The zero Options keep no
// history and allow clients nothing. A field is named like its option in the file,
// without underscores.
type Options struct {
	Name string // of the namespace; "" for channels without one

	// How many publications of a channel are kept and for how long. Both are zero
	// where there is no history.
	HistorySize int
	HistoryTTL  time.Duration

	// What a subscriber is given in any case (force), or when it asks for it (allow);
	// see Recovers and Positions.
	ForceRecovery     bool
	AllowRecovery     bool
	ForcePositioning  bool
	AllowPositioning  bool
	ForceRecoveryMode RecoveryMode // of all that recover, whether forced or asked for

	Presence           bool // the channel knows who is subscribed
	JoinLeave          bool // it says who comes and goes
	ForcePushJoinLeave bool // and tells so also those who did not ask; see PushesJoinLeave

	// Rights; see Allows.
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

	AllowUserLimitedChannels bool // '#' in a name has its meaning; see MaySubscribe
	AllowRawPublish          bool // also clients of the raw protocol may publish, if Allows says so
}

// An option is one that a file may have. Exactly one of flag and read is set.
type option struct {
	name string
	flag func(*Options) *bool               // where the value is true or false
	read func(o *Options, raw string) error // where it is not; raw is the value's JSON
}

// known are the options that sluice has, in the order in which they are suggested.
var known = []option{
	{name: "history_size", read: readHistorySize},
	{name: "history_ttl", read: readHistoryTTL},
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
	{name: "allow_user_limited_channels", flag: func(o *Options) *bool { return &o.AllowUserLimitedChannels }},
	{name: "allow_raw_publish", flag: func(o *Options) *bool { return &o.AllowRawPublish }},
}

const (
	noProxy  = "does not ask a backend for permission: allow it with allow_... options or subscription tokens"
	noDelta  = "sends whole publications, never differences"
	noMap    = "has channels with a history, and no others"
	noFilter = "does not look into publications"
	noMeta   = "keeps the epoch and the offsets of a channel as long as the channel"
	fixed    = "has ':', '#', ',' and '$' in these places, and no others"
)

// foreign are the options that Centrifugo has for a namespace and sluice does not,
// each with what sluice does.
var foreign = map[string]string{
	"history_meta_ttl":                     noMeta,
	"auto_cache_recovery":                  "recovers when the client asks for it",
	"allowed_delta_types":                  noDelta,
	"delta_publish":                        noDelta,
	"keep_latest_publication":              noDelta,
	"allow_tags_filter":                    noFilter,
	"publication_data_format":              noFilter,
	"channel_regex":                        "has one rule for the names of all channels",
	"subscribe_proxy_enabled":              noProxy,
	"subscribe_proxy_name":                 noProxy,
	"publish_proxy_enabled":                noProxy,
	"publish_proxy_name":                   noProxy,
	"sub_refresh_proxy_enabled":            noProxy,
	"sub_refresh_proxy_name":               noProxy,
	"subscribe_stream_proxy_enabled":       noProxy,
	"subscribe_stream_proxy_name":          noProxy,
	"subscribe_stream_proxy_bidirectional": noProxy,
	"subscribe_stream_bidirectional":       noProxy,
	"state_proxy_enabled":                  "does not tell a backend which channels are in use",
	"subscription_type":                    noMap,
	"map":                                  noMap,
	"shared_poll":                          noMap,
	"map_clients_presence_channel_prefix":  noMap,
	"map_users_presence_channel_prefix":    noMap,
}

// foreignAbove are the options that Centrifugo has beside without_namespace and
// namespaces.
var foreignAbove = map[string]string{
	"proxy":                   noProxy,
	"history_meta_ttl":        noMeta,
	"publication_data_format": noFilter,
	"max_length":              "bounds the names of all channels in the same way",
	"private_prefix":          fixed,
	"namespace_boundary":      fixed,
	"user_boundary":           fixed,
	"user_separator":          fixed,
}
