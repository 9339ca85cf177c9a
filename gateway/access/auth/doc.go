// Package auth verifies the tokens that identify clients and grant them permissions: JSON Web
// Tokens (RFC 7519) with Centrifugo's claims, signed by an application's backend.
//
// A [Verifier] holds the keys. [Verifier.Connection] verifies the token that a connection
// begins with, [Verifier.Subscription] the one for a channel; neither accepts the other
// kind. [Verifier.Cheap] reports whether verifying a token is fast enough for an event
// loop. A [Signer] makes tokens, for `sluice token` and for tests.
//
// # Order
//
// A token is untrusted until its signature is verified, so only its length, alphabet and
// header are looked at before that. The claims are not even decoded. Refusing a token
// costs less than accepting one.
//
// # Keys
//
// The algorithms of a key follow from the key (RFC 8725, section 3.1): HS256, HS384 and HS512 for a
// secret, RS256, RS384 and RS512 for RSA, ES256, ES384 and ES512 for P-256, P-384 and P-521, EdDSA
// for Ed25519. A key set can limit an RSA key to one of them. Only keys of the algorithm in the header's alg are tried. There may be up to eight secrets and eight
// public keys, and each is tried. That is how to replace a key without refusing valid
// tokens: add the new key, sign with it, and remove the old key once its last token has
// expired. kid selects a key only within a fetched key set. The rest of the header is
// ignored: keys and addresses in it (jwk, jku, x5c, x5u) are not used. A token with crit
// is refused, because no extension is supported.
//
// A key set (RFC 7517) is fetched only from the address in [Options], never from one in a
// token. One goroutine keeps it fresh. An unknown kid causes another fetch, at most one
// every ten seconds however many tokens have one; a token waits for it for at most two
// seconds. While the set cannot be fetched, the last good one stays in use, without a
// time limit.
//
// # Claims
//
//	sub       the user; absent or "" means anonymous. An integer stands for its decimal
//	          form: 42 is the same as "42"
//	exp       when the token expires; recommended, but optional
//	nbf       when the token becomes valid, minus Options.Leeway
//	aud, iss  required, and compared, if Options sets them
//	iat, jti  only their type is checked
//	info      any JSON, shown to others in presence
//	b64info   the same in base64 (standard alphabet); takes precedence over info
//	expire_at when the connection or subscription expires, instead of exp; 0 for never
//	meta      (connection) any JSON, never shown to clients
//	channels  (connection) channels that the server subscribes the connection to
//	subs      (connection) the same, with options: info and b64info are used, data and
//	          override are ignored
//	channel   (subscription) the channel; it makes the token a subscription token
//	client    (subscription) the only connection that may use the token
//
// A subscription token's override is ignored. A token with a repeated claim or a claim of
// the wrong type is refused. Unknown claims are ignored.
//
// # What it does not know
//
// It knows neither connections nor the protocol: the caller decides which error a client
// receives, and checks channel names beyond their length. It has no list of revoked
// tokens, and reads the clock only to fetch keys.
//
// It is a package of its own so that it can be reviewed and tested by itself, and so that
// nothing else imports the token libraries.
package auth
