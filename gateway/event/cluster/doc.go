// Package cluster lets nodes count the subscribers of channels together: for events of the levels of
// package event, of which one node sends those of a partition.
//
// # Owners
//
// Each node knows which others are live, and computes by rendezvous which of them owns a partition: of
// those that have receivers of events and do not shut down. When nodes come and go, nearly all partitions
// stay where they are. Two nodes may own a partition for as long as they do not see the same nodes;
// receivers ignore the one with the lower epoch.
//
// # How an owner learns of other nodes' channels
//
// An owner asks all nodes for the partitions that it wants, again and again. A node that is asked pushes
// to it, first all of its channels in these partitions (a sync), then each change. Pushes have a session
// and numbers, and there is one at a time. Whenever one is missing, or was not answered, the node begins a
// new session with syncs. So no message has to arrive, and a node that was away, or was declared gone
// and is not, is counted again as soon as it is asked. An owner begins to send events when it has the syncs
// of all live nodes, or a node has not sent them for patience.
//
// # The ends of nodes
//
// A node that is not heard for as long as its engine waits (its lease) is gone, and so are its channels: at
// once, because the lease was the delay. One that shuts down says so: its channels stay until it has
// ended, and have event.Config.VacatedDelay to appear elsewhere. It gives its partitions away before.
//
// The package does not know connections, engines, or how messages travel.
package cluster
