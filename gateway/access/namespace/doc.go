// Package namespace holds the options of channels: history, presence and permissions. The part
// of a channel's name before the first ':' is its namespace.
//
// [Parse] reads a namespaces file into a [Set], [Set.Lookup] returns the [Options] of a
// channel, and [Options.Allows] and [Options.MaySubscribe] report what these options
// allow a client to do there.
//
// # The file
//
// The file is JSON with the fields of the object "channel" in the configuration of
// Centrifugo v6, alone or within {"channel": ...}, so that an existing configuration can
// be copied:
//
//	{
//	  "without_namespace": {"presence": true},
//	  "namespaces": [{"name": "chat", "history_size": 100, "history_ttl": "300s"}]
//	}
//
// [Example] returns a longer file. The options mean the same as in Centrifugo, also where
// that is not obvious:
//
//   - A namespace inherits nothing from without_namespace.
//   - allow_..._for_anonymous grants nothing by itself. It extends
//     allow_..._for_client and allow_..._for_subscriber to clients without a user.
//   - In a namespace with allow_user_limited_channels, only the users listed after the
//     last '#' of a channel's name may subscribe to it, whatever
//     allow_subscribe_for_client says. Without that option '#' has no meaning.
//   - A leading '$' is not part of the namespace's name. Subscribing to such a channel
//     always requires a token.
//   - A name that begins with ':' has no namespace.
//   - force_positioning is not recovery: it sends a subscriber its position (epoch and
//     offset), with which it can read the history itself. Recovery sends it too.
//
// sluice adds two options. allow_raw_publish lets clients of raw WebSocket publish. They
// need permission to publish as well. "durable": false keeps a history in memory only, on a gateway
// that stores histories (--data-dir, --nats-url); elsewhere it has no effect.
//
// # What is refused
//
// The file decides who may read what, so nothing in it is ignored. An option of
// Centrifugo's that sluice does not support is refused even if it is off. An unknown key
// is refused with a suggestion. Also refused are a repeated key, a value of the wrong
// type, and an option that has no effect without another one, which Centrifugo accepts.
// All errors are reported at once, each with its location, what is wrong, why, and how to
// fix it.
//
// # What it does not know
//
// The package reads no files and starts no goroutines. It is a package of its own so that
// the table of permissions can be tested against a second one, apart from connections. It does
// not know tokens, which grant permissions that options do not; whether a client is
// subscribed; whether a channel's name is well formed; and what a refused client is
// sent.
package namespace
