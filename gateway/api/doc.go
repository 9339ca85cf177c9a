// Package api serves the server's HTTP API, through which a backend publishes, looks up clients
// and channels, and acts on them.
//
// The paths and the JSON are those of Centrifugo's HTTP API (v6), so that its server libraries
// work as they are: POST /api/publish with {"channel":"news","data":{}} is answered with
// {"result":{...}} or {"error":{"code":107,"message":"..."}}. Libraries from before v5 use only
// POST /api, with {"method":"publish","params":{...}}. A [Handler] decodes, checks and encodes; a
// [Node] carries out the requests. openapi.json, served at GET /api/openapi.json, describes every
// path but that old one, and a test compares it with the code.
//
// # Errors
//
// An error that a [Node] returns is sent with status 200, as Centrifugo does. With the header
// "X-Centrifugo-Error-Mode: transport" it has a status of its own, and the error is the whole
// body instead of being wrapped in "error". A malformed request has the same status in both
// modes: 400 for a body that is not JSON or has a field of the wrong type, 404 for an unknown
// method, 405 for GET, 413 for a body that is too large.
//
// # Where it differs from Centrifugo
//
//   - The result of publish also has subscribers: how many subscribers this node had at that
//     moment.
//   - Unknown fields are ignored, and field names are case-insensitive. A field of Centrifugo's
//     that would change what a request does, and that is not supported here (session,
//     label_filter, version, override, b64info), is refused with 108 when it is set: a request
//     to close one session must not close all of them. The field delta of publish is ignored:
//     clients that asked for deltas get whole publications.
//   - subscribe, unsubscribe, disconnect and refresh require a user or a client. The user ""
//     stands for anonymous connections.
//   - A publication that is not JSON has "data":null in a history, and its bytes in b64data.
//   - One malformed command refuses the whole batch before any of it is carried out.
//   - A batch has at most 1,000 commands, a broadcast at most 10,000 channels.
//
// # Idempotency keys
//
// A publish or broadcast with an idempotency_key is carried out once for each channel and key. A
// repetition within the window gets the first result, whatever the rest of its request says. The
// window (5 minutes) begins when the first request completes. Failures are not remembered, and a
// request that arrives while the first is in progress waits for it. Keys are kept in this
// process's memory: other nodes do not know them, nor does this one after a restart. At most
// 100,000 are kept. When there are more, the oldest are forgotten early. An engine that stores the
// channel's history recognizes the message by its key as well, on every node, for engine.DuplicateWindow:
// a Node that is asked again after a failure then publishes once.
//
// # What it does not know
//
// The package does not check API keys (the internal listener does). Of this module it knows only
// how package channel describes a client: channels, connections and users are the Node's business. It is a package of its own so
// that the JSON that other people's libraries rely on is in one place, beside its description.
package api
