// Package webhook sends events to an HTTP endpoint, signed as the Standard Webhooks specification
// 1.0.0 says. The body has the form of Centrifugo PRO's events.
//
// # A delivery
//
// A delivery is a POST of {"events":[...]}. Its headers webhook-id, the same each time the batch is
// sent, webhook-timestamp and webhook-signature let the receiver verify it, with the libraries of
// standardwebhooks.com.
//
// A status of 2xx means that the events are accepted, unless the body is JSON with an "error", as in
// Centrifugo. 410 (Gone) ends the webhook. Everything else is a failure, and the batch is sent
// again: after a time of the receiver's choice if it has a Retry-After. Redirects are not followed.
//
// The package is apart from package event so that a program with Go functions alone does not depend
// on HTTP. It reads no file.
package webhook
