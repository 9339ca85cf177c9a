// Package nats is the engine that stores histories in NATS JetStream and shares channels
// between nodes through NATS.
package nats
