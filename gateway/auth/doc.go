// Package auth verifies the tokens with which clients say who they are and what they
// may do: JSON Web Tokens (RFC 7519) with Centrifugo's claims, signed by an
// application's backend.
//
// A [Verifier] holds the keys. [Verifier.Connection] takes the token that a connection
// begins with, [Verifier.Subscription] the one for a channel; neither takes the
// other's. [Verifier.Cheap] tells whether that may be done where nothing may take long.
// A [Signer] makes tokens, for `sluice token` and for tests.
//
// # Order
//
// A token is untrusted until its signature is good, so as little as possible is done
// before: its length, its alphabet, its header. The claims are not even decoded until
// then. What is refused costs less than what is accepted.
//
// # Keys
//
// A key has exactly one algorithm, which follows from the key: HS256 for a secret,
// RS256 for RSA, ES256 for P-256, EdDSA for Ed25519 (RFC 8725, section 3.1). The
// header's alg chooses among the keys of that algorithm, and no other key is tried. Of
// several secrets or public keys each is tried, eight at most, which is how a key is
// replaced without a token being refused: the new one is added, tokens are signed with it,
// and the old one goes when its last token has expired. kid chooses within a key set that
// was fetched, and nowhere else. Nothing else in a header counts: keys
// and addresses in it (jwk, jku, x5c, x5u) are not looked at, and crit is refused,
// because no extension is understood.
//
// A key set (RFC 7517) comes from the one address in [Options], never from a token. One
// goroutine keeps it fresh. An unknown kid asks for it again, but no more often than
// every ten seconds, however many ask; who asks waits two seconds at most. While the
// set cannot be fetched, the last good one holds, without limit of time.
//
// # Claims
//
//	sub       the user; absent or "" is nobody in particular. An integer stands for its
//	          decimal form: 42 is "42"
//	exp       when the token ends; it should be set, but need not
//	nbf       when the token begins; Options.Leeway is granted
//	aud, iss  demanded and compared when Options has them
//	iat, jti  of the right type, nothing more
//	info      any JSON, shown to others in presence
//	b64info   the same in base64 (standard alphabet), in place of info
//	expire_at when the connection or subscription ends, in place of exp; 0 for never
//	meta      (connection) any JSON, never shown to clients
//	channels  (connection) names of channels to subscribe to on the server's side
//	subs      (connection) the same with options: of those info and b64info count,
//	          data and override do not
//	channel   (subscription) its channel; a token with this claim is a subscription's
//	client    (subscription) the one connection that may use it
//
// Of a subscription's token, override does not count. A claim of the wrong type, or
// one that is there twice, refuses the token; unknown claims do not.
//
// # What it does not know
//
// It knows neither connections nor the protocol: which error a client is told, and
// what a channel's name may look like beyond its length, is for whom calls. It does not
// know which tokens were revoked, and reads the clock only for fetching keys.
//
// It is a package of its own because it must be right apart from everything else, and
// so that nothing else needs the libraries for tokens.
package auth
