package namespace

import "strings"

// Op is what a client asks to do with a channel.
type Op uint8

const (
	Subscribe Op = iota
	Publish
	Presence // who is subscribed, or how many are
	History
)

// Who is a client that asks.
type Who struct {
	User       string // "" for anonymous
	Subscribed bool   // to the channel that it asks for
}

// Allows reports whether the options grant who permission for op. A client with a user has
// the permission by ..._for_client, or by ..._for_subscriber if it is subscribed. An anonymous
// client needs ..._for_anonymous as well.
//
// It reports only the permission. Whether the channel has presence or a history at all is in
// Presence and HistorySize. For Subscribe the channel's name matters too: use
// [Options.MaySubscribe].
func (o *Options) Allows(op Op, who Who) bool {
	var client, subscriber, anonymous bool
	switch op {
	case Subscribe:
		client, anonymous = o.AllowSubscribeForClient, o.AllowSubscribeForAnonymous
	case Publish:
		client, subscriber, anonymous = o.AllowPublishForClient, o.AllowPublishForSubscriber, o.AllowPublishForAnonymous
	case Presence:
		client, subscriber, anonymous = o.AllowPresenceForClient, o.AllowPresenceForSubscriber, o.AllowPresenceForAnonymous
	case History:
		client, subscriber, anonymous = o.AllowHistoryForClient, o.AllowHistoryForSubscriber, o.AllowHistoryForAnonymous
	}
	if who.User == "" && !anonymous {
		return false
	}
	return client || subscriber && who.Subscribed
}

// MaySubscribe reports whether user ("" for anonymous) may subscribe without a token to
// channel, which belongs to the namespace: never to a private channel; to a user-limited
// channel, if AllowUserLimitedChannels is on, only if it names the user; to any other
// channel if Allows reports so.
func (o *Options) MaySubscribe(channel, user string) bool {
	switch {
	case Private(channel):
		return false
	case o.AllowUserLimitedChannels && UserLimited(channel):
		return UserAllowed(channel, user)
	}
	return o.Allows(Subscribe, Who{User: user})
}

// AsksToSubscribe reports whether a hook decides who may subscribe to channel without a token. It is asked
// neither about private channels nor about user-limited ones, whose names decide.
func (o *Options) AsksToSubscribe(channel string) bool {
	return o.SubscribeProxyEnabled && !Private(channel) && !(o.AllowUserLimitedChannels && UserLimited(channel))
}

// Fits reports whether clients may use the name of channel, which belongs to the namespace: whether ChannelRegex matches
// what follows the namespace and its ':', or the whole name of a channel without a namespace. Like Centrifugo's it is not
// anchored, and not for the channels that the server chooses.
func (o *Options) Fits(channel string) bool {
	if o.ChannelRegex == nil {
		return true
	}
	if o.Name != "" {
		channel = strings.TrimPrefix(channel, privatePrefix)[len(o.Name)+1:]
	}
	return o.ChannelRegex.MatchString(channel)
}

// Recovers reports whether a subscriber is sent what it missed: always with
// ForceRecovery; if it asks, with AllowRecovery or if it may read the history. A
// subscriber that recovers is also sent its position.
func (o *Options) Recovers(user string, asks bool) bool {
	return o.ForceRecovery || asks && (o.AllowRecovery || o.Allows(History, Who{User: user, Subscribed: true}))
}

// Positions reports whether a subscriber that does not recover is sent its position, by
// the same rule as Recovers.
func (o *Options) Positions(user string, asks bool) bool {
	return o.ForcePositioning || asks && (o.AllowPositioning || o.Allows(History, Who{User: user, Subscribed: true}))
}

// PushesJoinLeave reports whether a subscriber is notified of joins and leaves. With
// JoinLeave it is, if ForcePushJoinLeave is on, or if it asks and may read the presence.
func (o *Options) PushesJoinLeave(user string, asks bool) bool {
	return o.JoinLeave && (o.ForcePushJoinLeave || asks && o.Allows(Presence, Who{User: user, Subscribed: true}))
}

// The characters that mark the parts of a channel's name.
const (
	privatePrefix     = "$"
	namespaceBoundary = ':'
	userBoundary      = '#'
	userSeparator     = ","
)

// Private reports whether subscribing to channel requires a token, whatever the options
// say.
func Private(channel string) bool { return strings.HasPrefix(channel, privatePrefix) }

// UserLimited reports whether channel names users, as "dialog#42,43" does. It matters only
// if AllowUserLimitedChannels is on.
func UserLimited(channel string) bool { return strings.IndexByte(channel, userBoundary) >= 0 }

// UserAllowed reports whether user is one of those listed after the last '#' of channel.
// It is false for an anonymous user ("") and if the channel names no users.
func UserAllowed(channel, user string) bool {
	i := strings.LastIndexByte(channel, userBoundary)
	if i < 0 || user == "" {
		return false
	}
	for rest, more := channel[i+1:], true; more; {
		var one string
		one, rest, more = strings.Cut(rest, userSeparator)
		if one == user {
			return true
		}
	}
	return false
}
