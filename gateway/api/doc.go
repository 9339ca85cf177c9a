// Package api answers the server's HTTP API: how a backend publishes, and how it asks about
// and acts on clients and channels.
//
// The paths and the JSON are those of Centrifugo's HTTP API (v6), so that its server libraries
// work as they are: POST /api/publish with {"channel":"news","data":{}} is answered with
// {"result":{...}} or {"error":{"code":107,"message":"..."}}. Libraries of before v5 know POST /api
// alone, with {"method":"publish","params":{...}}. [Handler] decodes, checks and encodes; what is
// asked for is done by a [Node], the other side of this package's door. All paths but that old one
// are described by openapi.json, which GET /api/openapi.json serves and a test holds against the
// code.
//
// # Errors
//
// An error that a [Node] gives comes with status 200, as Centrifugo answers. With the header
// "X-Centrifugo-Error-Mode: transport" it has a status of its own, and is the body itself
// instead of being wrapped in "error". What is no request at all has its status in
// either mode: 400 for a body that is not JSON or has a field of the wrong type, 404 for an
// unknown method, 405 for GET, 413 for a body that is too large.
//
// # Where it differs from Centrifugo
//
//   - A result of publish also has subscribers: how many this node had at that moment.
//   - Fields that are not known are ignored, and the case of a known field's name does not
//     count. A known field that would change what a request does, and that this gateway
//     does not have (session, label_filter, version, override, b64info), is refused
//     with 108 where it is set: who asks to close one session must not close all of them.
//     Of publish's fields delta is ignored: whoever asked for deltas gets whole publications.
//   - subscribe, unsubscribe, disconnect and refresh want a user or a client. No user is
//     the user "": those that came without saying who they are.
//   - A history's publication that is not JSON has "data":null and its bytes in b64data.
//   - One malformed command refuses the whole batch before any of it is done.
//   - A batch has at most 1,000 commands, a broadcast at most 10,000 channels.
//
// # Idempotency keys
//
// A publish or broadcast with an idempotency_key is done once for each channel and key; who
// sends it again within the window is given the first result, whatever the rest of the request says. The
// window (5 minutes) begins when the first is done; a failure is not remembered, and who sends the same key
// meanwhile waits for the first. Keys live in this process's memory: another node, or this
// one after a restart, does not know them. At most 100,000 are kept; the oldest go first,
// before their time if need be, and [Handler.ForgottenEarly] counts those.
//
// # What it does not know
//
// The package checks no API key (the internal listener has done so), and imports nothing of
// this module: channels, connections and users are the Node's. It is a package of its own so
// that the shapes that other people's libraries rely on are in one place, beside their description.
package api
