package auth

import "errors"

var (
	// ErrExpired is returned for a token that was valid until its exp (or expire_at). The
	// client may continue with a fresh one.
	ErrExpired = errors.New("the token has expired")
	// ErrUnavailable is returned for a token that can be neither verified nor refused at the
	// moment, because its key may be in a key set that cannot be fetched. The caller may try
	// again in a few seconds.
	ErrUnavailable = errors.New("the key set is unavailable at the moment")
)

// InvalidError is returned for a token that will never be valid. Its text names the claim
// that is wrong and holds no part of the token, so it may be logged and sent.
type InvalidError struct {
	reason string
	claim  string // the claim that the reason is about, "" for none
}

func (e *InvalidError) Error() string { return "invalid token: " + e.Reason() }

// Reason returns the text without its prefix: a few words.
func (e *InvalidError) Reason() string {
	if e.claim == "" {
		return e.reason
	}
	return `claim "` + e.claim + `" ` + e.reason
}

// Is reports whether target has the same reason, for the same claim or for no claim.
func (e *InvalidError) Is(target error) bool {
	t, ok := target.(*InvalidError)
	return ok && t.reason == e.reason && (t.claim == "" || t.claim == e.claim)
}

// of returns the error for a claim. It allocates: claims are read only after the signature is
// verified.
func (e *InvalidError) of(claim string) *InvalidError { return &InvalidError{e.reason, claim} }

func invalid(reason string) *InvalidError { return &InvalidError{reason: reason} }

// The errors are prepared, so that a flood of bad tokens allocates nothing for them.
var (
	errEmpty     = invalid("empty token")
	errLong      = invalid("longer than 8 KiB")
	errParts     = invalid("not three parts separated by dots")
	errAlphabet  = invalid("a character is not allowed in base64url")
	errBase64    = invalid("a part is not valid base64url")
	errHeader    = invalid("the header is not a JSON object")
	errDuplicate = invalid("a field name is repeated")
	errMany      = invalid("too many fields")
	errCritical  = invalid("the header requires an unsupported extension (crit, b64)")
	errHeadType  = invalid("alg or kid in the header has the wrong type")
	errNone      = invalid("not signed (alg is none)")
	errAlgorithm = invalid("alg is none of HS256, HS384, HS512, RS256, RS384, RS512, ES256, ES384, ES512 and EdDSA")
	errNoKey     = invalid("no key is configured for its algorithm (alg)")
	errUnknown   = invalid("its key ID (kid) is not in the key set")
	errNoKeyID   = invalid("no key ID (kid), and the key set has several keys")
	errSignature = invalid("the signature is wrong")

	errClaims       = invalid("the claims are not a JSON object")
	errIsSub        = invalid("a subscription token, not a connection token")
	errIsNotSub     = invalid("a connection token, not a subscription token")
	errBothKinds    = invalid("mixes claims of connection and subscription tokens")
	errEarly        = invalid("not valid yet (nbf)")
	errAudience     = invalid("wrong audience (aud)")
	errIssuer       = invalid("wrong issuer (iss)")
	errManyChannels = invalid("names more than 1024 channels")

	// About one claim, whose name precedes the text.
	errTwice        = invalid("is repeated")
	errString       = invalid("must be a string")
	errUser         = invalid("must be a string or an integer")
	errUserLong     = invalid("is longer than 255 bytes")
	errAudiences    = invalid("must be a string or an array of strings")
	errTime         = invalid("must be a time in Unix seconds")
	errMilliseconds = invalid("is after the year 9999: use seconds, not milliseconds")
	errInfo         = invalid("must be base64-encoded JSON")
	errChannels     = invalid("must be an array of channel names")
	errSubs         = invalid("must be an object with one object per channel")
	errSubsTwice    = invalid("names a channel twice")
	errSubOptions   = invalid("has channel options with a repeated name, or with a b64info that is not base64-encoded JSON")
	errName         = invalid("has a channel name that is empty or longer than 255 bytes")
)
