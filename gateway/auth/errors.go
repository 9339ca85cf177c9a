package auth

import "errors"

var (
	// ErrExpired is the refusal of a token that was good until its exp (or expire_at):
	// with a fresh one the client may go on.
	ErrExpired = errors.New("the token has expired")
	// ErrUnavailable says that a token can be judged neither way at present, because the
	// key that it names may be in a key set that cannot be fetched just now. It is worth
	// trying again in some seconds.
	ErrUnavailable = errors.New("the keys cannot be fetched at present")
)

// InvalidError is the refusal of a token that no waiting makes good. Its text holds
// nothing of the token, so it can be logged and sent; it names the claim that is wrong.
type InvalidError struct {
	reason string
	claim  string // what the reason is about, where it is one claim
}

func (e *InvalidError) Error() string { return "invalid token: " + e.Reason() }

// Reason is the text without its prefix: a few words.
func (e *InvalidError) Reason() string {
	if e.claim == "" {
		return e.reason
	}
	return `claim "` + e.claim + `" ` + e.reason
}

// Is reports whether target is the same refusal, of this claim or of any.
func (e *InvalidError) Is(target error) bool {
	t, ok := target.(*InvalidError)
	return ok && t.reason == e.reason && (t.claim == "" || t.claim == e.claim)
}

// of returns the refusal for a claim. It allocates: claims are read only when the signature is
// good.
func (e *InvalidError) of(claim string) *InvalidError { return &InvalidError{e.reason, claim} }

func invalid(reason string) *InvalidError { return &InvalidError{reason: reason} }

// Refusals are prepared: whoever floods with bad tokens gets no memory for them.
var (
	errEmpty     = invalid("it is empty")
	errLong      = invalid("it is longer than 8 KiB")
	errParts     = invalid("it does not have three parts")
	errAlphabet  = invalid("a character is not of base64url")
	errBase64    = invalid("a part is not base64url")
	errHeader    = invalid("the header is not a JSON object")
	errDuplicate = invalid("a name is there twice")
	errMany      = invalid("it has too many members")
	errCritical  = invalid("the header demands an extension (crit, b64)")
	errHeadType  = invalid("alg or kid in the header has the wrong type")
	errNone      = invalid("it is not signed (alg none)")
	errAlgorithm = invalid("the algorithm is not accepted")
	errNoKey     = invalid("there is no key for its algorithm")
	errUnknown   = invalid("the key that it names is unknown")
	errNoKeyID   = invalid("it does not name its key (kid), and there are several")
	errSignature = invalid("the signature is wrong")

	errClaims       = invalid("the claims are not a JSON object")
	errIsSub        = invalid("it is a subscription token")
	errIsNotSub     = invalid("it is not a subscription token")
	errBothKinds    = invalid("it mixes the claims of connections and subscriptions")
	errEarly        = invalid("it is not valid yet (nbf)")
	errAudience     = invalid("it is for another audience (aud)")
	errIssuer       = invalid("it is from another issuer (iss)")
	errManyChannels = invalid("it names more than 128 channels")

	// Of a claim, which is named before them.
	errTwice        = invalid("is there twice")
	errString       = invalid("must be a string")
	errUser         = invalid("must be a string or an integer")
	errUserLong     = invalid("is longer than 255 bytes")
	errAudiences    = invalid("must be a string or an array of strings")
	errTime         = invalid("must be a number of seconds after 1970")
	errMilliseconds = invalid("is after the year 9999: it must count seconds, not milliseconds")
	errInfo         = invalid("must be JSON in base64")
	errChannels     = invalid("must be an array of channels' names")
	errSubs         = invalid("must be an object with an object for each channel")
	errSubsTwice    = invalid("names a channel twice")
	errSubOptions   = invalid("has options for a channel with a name twice, or with a b64info that is not JSON in base64")
	errName         = invalid("has a channel's name that is empty or longer than 255 bytes")
)
