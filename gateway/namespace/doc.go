// Package namespace knows what holds for a channel, by the part of its name before
// the first ':'.
//
// [Parse] reads a file of namespaces into a [Set], [Set.Lookup] gives the [Options] of
// a channel, and [Options.Allows] and [Options.MaySubscribe] say what a client may do
// there by these options alone.
//
// # The file
//
// It is JSON of the shape that the object "channel" has in the configuration of
// Centrifugo v6, alone or within {"channel": ...}, so that a working file can be
// copied:
//
//	{
//	  "without_namespace": {"presence": true},
//	  "namespaces": [{"name": "chat", "history_size": 100, "history_ttl": "300s"}]
//	}
//
// [Example] is a longer one. The options mean what they mean there, also where that is
// not obvious:
//
//   - A namespace inherits nothing from without_namespace.
//   - allow_..._for_anonymous alone gives no right. It extends what
//     allow_..._for_client and allow_..._for_subscriber give to clients without a user.
//   - In a namespace with allow_user_limited_channels a name with '#' is open to the
//     users behind its last '#', and to nobody by allow_subscribe_for_client. Without
//     that option '#' has no meaning.
//   - A name that begins with '$' is of the namespace that it would be of without
//     the '$', and nobody may subscribe to it without a token.
//   - A name that begins with ':' is of no namespace.
//   - force_positioning is not recovery: it tells a subscriber its place (epoch and
//     offset), with which it can ask for the history itself. Recovery tells it too.
//
// Sluice adds one option: allow_raw_publish, with which clients of the raw WebSocket
// protocol may publish. It is asked beside the rights to publish, not in place of them.
//
// # What is refused
//
// The file decides who may read what, so nothing in it is passed over. An option that
// Centrifugo has and sluice does not is refused also where it is off. A key that
// nobody knows is refused with the option that it resembles, as are a key that is
// there twice, a value of another type, and an option that does nothing without
// another one, which Centrifugo lets pass. All faults are reported at once, each with
// where it is, what is wrong, why, and how to mend it.
//
// Sets and options do not change once made, and are safe for concurrent use. The
// package reads no files and starts no goroutines. It is a package of its own so that
// the table of rights can be checked against a second one, apart from connections.
// It does not know tokens, which give rights that options do not; whether a client is
// subscribed; whether a channel's name is well formed; and what an answer to a refused
// client looks like.
package namespace
