// Package serve is `sluice serve`: its settings, the plan that they make together, listeners,
// certificates, the log and the life of the process around a gateway.
package serve
