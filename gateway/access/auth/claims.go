package auth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// Bounds of what a token may name, as in the Centrifugo protocol.
const (
	nameBytesMax = 255
	channelsMax  = 1024 // as many as one connection can have
	fewChannels  = 16
)

// Connection is what a connection token grants. It shares no memory with the token.
type Connection struct {
	User     string                // at most 255 bytes; "" for anonymous
	ExpireAt int64                 // Unix seconds; 0 for never
	Info     []byte                // JSON in one line; nil for none
	Meta     []byte                // JSON in one line, not for clients; nil for none
	Channels []string              // distinct, each of 1 to 255 bytes
	Subs     map[string]SubOptions // by channel, of 1 to 255 bytes; may repeat some of Channels
	Key      uint32                // which has verified it, see Verifier.Has
}

// SubOptions are the options of a channel in a connection token.
type SubOptions struct {
	Info []byte // JSON in one line; nil for none
}

// Subscription is what a subscription token grants. It shares no memory with the token.
// The caller must compare User and Client with those of the connection.
type Subscription struct {
	User     string // at most 255 bytes; "" for anonymous
	Channel  string // 1 to 255 bytes
	Client   string // the only connection that may use it; "" for any
	ExpireAt int64  // Unix seconds; 0 for never
	Info     []byte // JSON in one line; nil for none
	Key      uint32 // which has verified it, see Verifier.Has
}

// claims are the claims of a token of either kind.
type claims struct {
	user                  string
	exp, nbf              int64 // 0 when absent
	expireAt              int64
	hasExpireAt           bool
	info, b64info, meta   []byte
	channels              []string
	subs                  map[string]SubOptions
	channel, client       string
	isSub, hasServerSubs  bool
	rightAud, rightIssuer bool
	key                   uint32 // which has verified the token
}

// parseClaims reads the claims and checks their types.
func (v *Verifier) parseClaims(b []byte) (c claims, bad *InvalidError) {
	if !object(b) {
		return c, errClaims
	}
	var seen names
	for name, value := range members(b) {
		if bad := seen.add(name); bad != nil {
			if bad == errDuplicate && slices.Contains(claimNames, string(name)) {
				bad = errTwice.of(string(name))
			}
			return c, bad
		}
		if bad := v.parseClaim(&c, name, value); bad != nil {
			return c, bad
		}
	}
	if c.b64info != nil {
		c.info = c.b64info
	}
	return c, nil
}

// claimNames are the claims that are read.
var claimNames = []string{"sub", "channel", "client", "jti", "iss", "aud", "exp", "nbf", "iat", "expire_at", "info", "b64info", "meta", "channels", "subs"}

func (v *Verifier) parseClaim(c *claims, name, value []byte) (bad *InvalidError) {
	isText := value[0] == '"'
	switch string(name) {
	case "sub":
		c.user, bad = user(value)
	case "channel":
		c.isSub = true
		if c.channel, isText = text(value); !isText {
			bad = errString
		} else if !named255(c.channel) {
			bad = errName
		}
	case "client":
		if c.client, isText = text(value); !isText {
			bad = errString
		}
	case "jti":
		if !isText {
			bad = errString
		}
	case "iss":
		if c.rightIssuer = isText && string(unquote(value)) == v.issuer; !isText {
			bad = errString
		}
	case "aud":
		if c.rightAud, isText = v.forUs(value); !isText {
			bad = errAudiences
		}
	case "exp":
		c.exp, bad = seconds(value)
	case "nbf":
		c.nbf, bad = seconds(value)
	case "iat":
		_, bad = seconds(value)
	case "expire_at":
		if c.hasExpireAt = true; string(value) != "0" {
			c.expireAt, bad = seconds(value)
		}
	case "info":
		c.info = keep(value)
	case "b64info":
		c.b64info, bad = decodeInfo(value)
	case "meta":
		c.meta = keep(value)
	case "channels":
		c.hasServerSubs = true
		bad = c.parseChannels(value)
	case "subs":
		c.hasServerSubs = true
		bad = c.parseSubs(value)
	}
	if bad != nil && bad != errManyChannels {
		return bad.of(string(name))
	}
	return bad
}

// user reads a user ID: a string, or an integer of any size, as many backends have it, which
// stands for its decimal form.
func user(value []byte) (string, *InvalidError) {
	id, ok := text(value)
	if !ok {
		if number := value[0] == '-' || value[0] >= '0' && value[0] <= '9'; !number || bytes.ContainsAny(value, ".eE") || string(value) == "-0" {
			return "", errUser
		}
		id = string(value)
	}
	if len(id) > nameBytesMax {
		return "", errUserLong
	}
	return id, nil
}

func named255(channel string) bool { return channel != "" && len(channel) <= nameBytesMax }

// forUs reports whether an aud claim, a string or an array of strings, has our audience.
func (v *Verifier) forUs(value []byte) (right, isText bool) {
	switch value[0] {
	case '"':
		return string(unquote(value)) == v.audience, true
	case '[':
		for one := range elements(value) {
			if one[0] != '"' {
				return false, false
			}
			right = right || string(unquote(one)) == v.audience
		}
		return right, true
	}
	return false, false
}

// year9999 is the last second of the year 9999. Later times are mistakes, mostly
// milliseconds, that would make a token last forever.
const year9999 = 253402300799

// seconds reads a time (NumericDate, RFC 7519, section 2): an integer, or a fraction, which is
// rounded down.
func seconds(value []byte) (int64, *InvalidError) {
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		f, err := strconv.ParseFloat(string(value), 64)
		if err != nil && !math.IsInf(f, 1) || f < 1 {
			return 0, errTime
		}
		n = int64(min(f, year9999+1))
	}
	switch {
	case n <= 0:
		return 0, errTime
	case n > year9999:
		return 0, errMilliseconds
	}
	return n, nil
}

// decodeInfo decodes a base64 info. Bytes that are not JSON could not be shown to clients
// that use JSON.
func decodeInfo(value []byte) ([]byte, *InvalidError) {
	s, ok := text(value)
	if !ok {
		return nil, errInfo
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if s == "" {
		return nil, nil
	}
	if err != nil || !utf8.Valid(b) || !json.Valid(b) {
		return nil, errInfo
	}
	return keep(b), nil
}

func (c *claims) parseChannels(value []byte) *InvalidError {
	if value[0] != '[' {
		return errChannels
	}
	var more map[string]bool // beyond a few, in which a search is faster
	for one := range elements(value) {
		name, ok := text(one)
		switch {
		case !ok:
			return errChannels
		case !named255(name):
			return errName
		case more[name] || slices.Contains(c.channels[:min(len(c.channels), fewChannels)], name):
			continue // it is subscribed once
		case len(c.channels)+len(c.subs) == channelsMax:
			return errManyChannels
		}
		if len(c.channels) >= fewChannels {
			if more == nil {
				more = make(map[string]bool)
			}
			more[name] = true
		}
		c.channels = append(c.channels, name)
	}
	return nil
}

func (c *claims) parseSubs(value []byte) *InvalidError {
	if value[0] != '{' {
		return errSubs
	}
	c.subs = make(map[string]SubOptions)
	for name, options := range members(value) {
		channel := string(name)
		switch _, twice := c.subs[channel]; {
		case twice:
			return errSubsTwice
		case !named255(channel):
			return errName
		case options[0] != '{':
			return errSubs
		case len(c.channels)+len(c.subs) == channelsMax:
			return errManyChannels
		}
		o, bad := parseSubOptions(options)
		if bad != nil {
			return errSubOptions
		}
		c.subs[channel] = o
	}
	return nil
}

func parseSubOptions(value []byte) (o SubOptions, bad *InvalidError) {
	var b64info []byte
	var seen names
	for name, value := range members(value) {
		if bad := seen.add(name); bad != nil {
			return o, bad
		}
		switch string(name) {
		case "info":
			o.Info = keep(value)
		case "b64info":
			if b64info, bad = decodeInfo(value); bad != nil {
				return o, bad
			}
		}
	}
	if b64info != nil {
		o.Info = b64info
	}
	return o, nil
}

// check checks the values of the claims. Expiry comes last: it means that a fresh token would
// be accepted.
func (v *Verifier) check(c *claims, now time.Time) error {
	switch {
	case c.isSub && c.hasServerSubs:
		return errBothKinds
	case v.audience != "" && !c.rightAud:
		return errAudience
	case v.issuer != "" && !c.rightIssuer:
		return errIssuer
	case c.nbf != 0 && now.Add(v.leeway).Unix() < c.nbf:
		return errEarly
	case c.exp != 0 && now.Unix() >= c.exp:
		return ErrExpired
	case c.expireAt != 0 && now.Unix() >= c.expireAt:
		return ErrExpired
	}
	return nil
}

// end returns when the connection or subscription expires.
func (c *claims) end() int64 {
	if c.hasExpireAt {
		return c.expireAt
	}
	return c.exp
}
