// Package migration is `sluice import`: it makes sluice's own files from the configuration of another
// server.
//
// The configuration of Centrifugo is read into a tree of nodes. Converters walk the tree, write
// what sluice has too into the files of the result, and give each node a fate: what happened to it, and
// why. A key without a fate is unknown, so nothing is dropped silently.
//
// # It closes, and never opens
//
// What a client may do afterwards is at most what it may do with Centrifugo. Where sluice lacks
// something that restricts clients, such as a hook over gRPC or a pattern for audiences, what it
// restricts is left out too: permissions, or the keys that verify tokens. The report says so.
//
// # What decides
//
// Which options exist, and which values they can have, is known by the packages that read the
// result (serve, namespace and hook/config). The converters ask them, and repeat their reasons.
//
// The package does not know whether the result suits a machine: `sluice check` does.
package migration
