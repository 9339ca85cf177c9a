// Package hooktest has the backend of an application for tests of HTTP hooks, three times: in Go
// (Backend), in Express (express.mjs) and in Flask (flask_backend.py). All are written from the
// description of Centrifugo's proxies, as an application would write them, and import nothing of
// the gateway. They check that a request is what its event is described as, and answer 500 if not.
//
// # What they decide
//
// The part behind the last '-' of what they are asked about is a word: of the cookie "session" for
// connect, of the channel for subscribe, of the payload, which is a JSON string, for publish, and
// of the method for RPC. For refresh and sub_refresh it is the part behind the last '@' of the
// user, and of the channel. The words:
//
//	error         {"error": {"code": 403, "message": "not you"}}
//	unauthorized  {"error": {"code": 401, "message": "who are you?"}}
//	later         {"error": {"code": 1000, "message": "try later", "temporary": true}}
//	disconnect    {"disconnect": {"code": 4501, "reason": "banned"}}
//	reconnect     {"disconnect": {"code": 4001, "reason": "move"}}
//	all           a disconnect (4501), an error and a result
//	both          an error (403) and a result
//	empty         {}
//	null          {"result": null}
//	nothing       {"result": {}}
//	nulls         a result whose fields are null
//	created       the status 201 with a result
//	none          the status 204
//	redirect      the status 307, to the same hook
//	fails         the status 500
//	busy          the status 429
//	broken        half a JSON text
//	text          "OK", which is not JSON
//	number        a result with a number for a string, or a float for an integer
//	hangs         no answer
//	past          a result with an expire_at that is over
//	+N            a result with expire_at N seconds from now
//	expired       a result with expired
//
// Any other word is a result: a connected client has its session as user, an info and a meta, a
// subscription has an info and data, a publication is published as it is, or as "changed" if it is
// "change", and an RPC is answered with what was asked.
//
// GET /asked returns what was asked since the last time, as a list of lines.
//
// It is a package of its own because the tests of several packages start these backends.
package hooktest
