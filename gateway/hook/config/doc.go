// Package config reads which HTTP hooks there are, and makes them.
//
// [Parse] reads a hooks file, and [Flags] are the settings for the simple case. Both become a
// [Config], [Merge] joins them, and [Config.Check] compares them with the namespaces and the other
// settings. [Config.Build] makes the hooks.
//
// # The file
//
// The file is JSON with the keys of Centrifugo's configuration, so that parts of an existing
// one can be copied:
//
//	{
//	  "client":  {"proxy": {"connect": {"enabled": true, "endpoint": "http://127.0.0.1:3000/connect", "http_headers": ["Cookie"]}}},
//	  "channel": {"proxy": {"subscribe": {"endpoint": "http://127.0.0.1:3000/subscribe", "timeout": "2s"}}},
//	  "rpc":     {"proxy": {"endpoint": "http://127.0.0.1:3000/rpc"}, "without_namespace": {"proxy_enabled": true}},
//	  "proxies": [{"name": "chat", "endpoint": "https://chat.example/hook"}]
//	}
//
// The hooks in "channel" and "rpc" have the name "default". A namespace selects a hook by its name
// (Selection), and without a namespaces file the default ones are for every channel. sluice
// adds to each hook:
//
//   - "max_in_flight": how many calls of each event run at a time.
//   - "queue_timeout": how long a call waits for that at most.
//   - "singleflight_headers": the headers that identify a user; see proxy.Config.SharedBy.
//   - "cache": for how long a decision about a subscription is used again; see proxy.Config.Cache.
//
// # What is refused
//
// As in a namespaces file, nothing is ignored: an unknown or a repeated key, one that sluice does
// not support, and one that has no effect are errors. All errors are reported at once, each on
// a line that begins with the path of the key. No error repeats what may be a secret.
//
// It is a package of its own because programs that embed the gateway have no such file.
package config
