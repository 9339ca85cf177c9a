// Package nats is the engine that stores histories in NATS JetStream, and that shares channels between
// nodes through NATS.
//
// It has two forms. A single node with a data directory runs a NATS server in this process
// (embedded.go, keeper.go, package datadir), without a port; only channels with a stored history are the
// engine's, and others are package local's. The nodes of a cluster use NATS servers, and all channels
// are the engine's.
//
// # A publication's way
//
//  1. A loop hands it to the lane of its channel ([Engine.Publish], publish.go), in a bounded queue.
//  2. The lane's sending goroutine sends it (lane.go). No other goroutine publishes.
//  3. With a stored history it goes to its stream (stream.go). The stream's acknowledgement has its offset,
//     and is the publisher's receipt. What has none is sent to the channel's subject, and
//     acknowledged when a mark that the lane sends to itself behind it has come back.
//  4. On a single node it is appended with the acknowledgement. In a cluster every node, the
//     publisher's too, gets it on the channel's subject: from the stream, which republishes what it stores,
//     or from its publisher. The lane's receiving goroutine appends it (route.go, check.go).
//
// # Goroutines
//
// There are as many lanes as processors, each for the channels of some hashes. Its sending goroutine calls
// the NATS client, and may wait for it. Its receiving goroutine owns the routes of its
// channels, appends, and waits for nothing. Workers read streams (reading.go, read.go) on a
// connection of their own. The housekeeper (house.go) looks after streams, and nodes (nodes.go, beat.go,
// ask.go) hear each other, on one goroutine each. What one wants of another is posted. A channel has no
// goroutine and no timer.
//
// # What is lost
//
// Each message of a history has the sequence of the one before it in its channel. Where that is not the
// last one that the route has, the channel is read from the stream, and its messages wait meanwhile.
// What comes last in a burst has nothing behind it: positions are compared with the
// streams after whatever may have lost something, and in a round (check.go). What the stream does not have any
// more is a gap.
//
// Channels without a stored history have an order of their own on each node. Their messages carry a counter of
// their publisher, and that of its message before. What is missing is a gap, and so is what may be missing
// after an interruption (beat.go).
//
// Subscriptions that the servers refuse are tried again (refused.go). One node changes streams at a time (claim.go).
//
// The package does not know connections, loops or wire formats.
package nats
