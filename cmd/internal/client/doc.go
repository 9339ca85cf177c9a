// Package client is `sluice pub` and `sluice sub`, and InternalError, which other commands that
// connect to a gateway use too.
package client
