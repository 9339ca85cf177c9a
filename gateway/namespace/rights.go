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

// Who is the client that asks.
type Who struct {
	User       string // "" for an anonymous one
	Subscribed bool   // to the channel that it asks for
}

// Allows tells whether the options give who the right to op. A client with a user
// has the right by ..._for_client, or by ..._for_subscriber where it is subscribed; an
// anonymous one by the same, but only together with ..._for_anonymous.
//
// It is a right alone: whether the channel has a presence or a history at all, Presence
// and HistorySize say. For Subscribe the channel's name matters too: ask
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

// MaySubscribe tells whether user ("" for an anonymous one) may subscribe to channel,
// which is one of the namespace, without a token: never to a private channel; to one
// that is limited to users, where the options know such, only if it names the user;
// and to any other if Allows says so.
func (o *Options) MaySubscribe(channel, user string) bool {
	switch {
	case Private(channel):
		return false
	case o.AllowUserLimitedChannels && UserLimited(channel):
		return UserAllowed(channel, user)
	}
	return o.Allows(Subscribe, Who{User: user})
}

// Recovers tells whether a subscriber is sent what it missed: always where recovery
// is forced, and if it asks for it where that is allowed or it may read the history.
// Whoever recovers is also told its place.
func (o *Options) Recovers(user string, asks bool) bool {
	return o.ForceRecovery || asks && (o.AllowRecovery || o.Allows(History, Who{User: user, Subscribed: true}))
}

// Positions tells whether a subscriber that does not recover is told its place,
// by the same rule as Recovers.
func (o *Options) Positions(user string, asks bool) bool {
	return o.ForcePositioning || asks && (o.AllowPositioning || o.Allows(History, Who{User: user, Subscribed: true}))
}

// PushesJoinLeave tells whether a subscriber is told who comes and goes: where the
// channel says so at all, always if that is forced, and if it asks for it and may
// see the presence.
func (o *Options) PushesJoinLeave(user string, asks bool) bool {
	return o.JoinLeave && (o.ForcePushJoinLeave || asks && o.Allows(Presence, Who{User: user, Subscribed: true}))
}

// What parts of a channel's name are marked with.
const (
	privatePrefix     = "$"
	namespaceBoundary = ':'
	userBoundary      = '#'
	userSeparator     = ","
)

// Private tells whether a subscription to channel needs a token, whatever the
// options say.
func Private(channel string) bool { return strings.HasPrefix(channel, privatePrefix) }

// UserLimited tells whether channel names users, as "dialog#42,43" does. That has a
// meaning only where AllowUserLimitedChannels is on.
func UserLimited(channel string) bool { return strings.IndexByte(channel, userBoundary) >= 0 }

// UserAllowed tells whether user is one of those that channel names behind its last
// '#'. An anonymous user ("") is never, and nobody is where the channel names no users.
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
