// Package proxy makes hooks of HTTP endpoints, as Centrifugo's proxies do: a backend that was
// written for those works unchanged.
//
// # A call
//
// A call is a POST of compact JSON. Its answer is JSON with "result", "error" or "disconnect",
// and decides if its status is exactly 200; otherwise Config.Transforms do, or it is a failure.
// An answer is at most 64 KiB long. null means the same as a missing field. A redirect is not
// followed, because the operator has named the endpoint. A proxy of the environment is not used.
// The addresses at which clouds serve credentials to their machines are refused where a
// connection is made, so a name that resolves to one does not help.
//
// # Headers
//
// Headers of the request that opened the connection, and those that a client writes into its
// connect command ("emulated"), have one allow-list each, because a client can write anything. A
// header of the opening request is never replaced by an emulated one, and a name on one list lets
// nothing of the other kind through (CVE-2026-71485). Both replace Config.StaticHeaders.
//
// # What happens to a call before it is sent
//
// [Hook] looks into the cache of subscribe decisions, then for a call in flight that is the same,
// and then asks a hook.Caller, whose queue bounds the calls.
//
// The package is apart from package hook so that a program with Go hooks alone does not depend on
// HTTP. It reads no file, and does not know namespaces.
package proxy
