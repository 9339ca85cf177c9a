// Package ops is the internal listener, which an operator and backends use: the HTTP API, metrics,
// health checks, profiling and the operator's page (package console), each behind the API key or
// for this machine only; and the process's memory limit.
//
// It is a package of its own because everything in it is asked for rarely and by few, and
// nothing else may depend on it: what it needs of a gateway is the interface [Gateway], a
// [Snapshot] for the metrics, and the API's handler.
//
// A [Listener] is set at construction and does not change; net/http's goroutines use it.
//
// The package does not know connections, loops, channels or protocols.
package ops
