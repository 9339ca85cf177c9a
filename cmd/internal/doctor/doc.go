// Package doctor is what looks at a gateway or would-be gateway from outside: `sluice check`,
// `config` and `health`, and Place, which asks a listener over HTTP.
package doctor
