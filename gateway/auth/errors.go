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
// nothing of the token, so it can be logged and sent.
type InvalidError struct{ reason string }

func (e *InvalidError) Error() string { return "invalid token: " + e.reason }

// Reason is the text without its prefix: a few words.
func (e *InvalidError) Reason() string { return e.reason }

func invalid(reason string) *InvalidError { return &InvalidError{reason} }

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
	errString       = invalid("a claim that has to be a string is not")
	errUser         = invalid("the user (sub) is longer than 255 bytes")
	errTime         = invalid("a time is not a number of seconds after 1970")
	errMilliseconds = invalid("a time is after the year 9999: it counts seconds, not milliseconds")
	errInfo         = invalid("b64info is not JSON in base64")
	errChannels     = invalid("channels is not a list of names")
	errSubs         = invalid("subs is not an object of objects")
	errName         = invalid("a channel's name is empty or longer than 255 bytes")
	errManyChannels = invalid("it names more than 128 channels")
)
