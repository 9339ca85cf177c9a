package auth

import (
	"encoding/base64"
	"strings"
)

// tokenBytesMax bounds tokens before anything is done with them. Web servers have about
// the same limit for a header field.
const tokenBytesMax = 8 << 10

// base64url refuses bits that a decoder would drop: a token has one spelling.
var base64url = base64.RawURLEncoding.Strict()

// inAlphabet has true for the characters of a token. A decoder skips line ends, so it
// does not suffice.
var inAlphabet = func() (table [256]bool) {
	for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" {
		table[c] = true
	}
	table['.'] = true
	return table
}()

// parts is a token split at its dots, still encoded.
type parts struct {
	header, claims, signature string
	signed                    string // header and claims with the dot between them
}

// split splits a token at its dots. Its cost is bounded by tokenBytesMax.
func split(token string) (parts, *InvalidError) {
	switch {
	case token == "":
		return parts{}, errEmpty
	case len(token) > tokenBytesMax:
		return parts{}, errLong
	}
	for i := range len(token) {
		if !inAlphabet[token[i]] {
			return parts{}, errAlphabet
		}
	}
	one := strings.IndexByte(token, '.')
	two := strings.LastIndexByte(token, '.')
	if one == two || strings.IndexByte(token[one+1:two], '.') >= 0 {
		return parts{}, errParts
	}
	return parts{token[:one], token[one+1 : two], token[two+1:], token[:two]}, nil
}

// algorithm is a signature algorithm.
type algorithm uint8

const (
	hs256 algorithm = iota + 1
	hs384
	hs512
	rs256
	rs384
	rs512
	es256
	es384
	es512
	edDSA
	algorithms // how many, and one
)

func (a algorithm) String() string {
	return [algorithms]string{"", "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"}[a]
}

// family returns the first of the algorithms that have the same keys. A secret and an RSA key are for any of three hashes;
// of the others, each has a key of its own.
func (a algorithm) family() algorithm {
	switch {
	case a <= hs512:
		return hs256
	case a <= rs512:
		return rs256
	}
	return a
}

// header holds the fields of a token's header that are used.
type header struct {
	alg    algorithm
	kid    string
	hasKid bool
}

// parseHeader reads an encoded header.
func parseHeader(encoded string) (h header, bad *InvalidError) {
	b, err := base64url.DecodeString(encoded)
	if err != nil {
		return h, errBase64
	}
	if !object(b) {
		return h, errHeader
	}
	var seen names
	for name, value := range members(b) {
		if bad := seen.add(name); bad != nil {
			return h, bad
		}
		switch string(name) {
		case "alg":
			if value[0] != '"' {
				return h, errHeadType
			}
			if h.alg, bad = named(unquote(value)); bad != nil {
				return h, bad
			}
		case "kid":
			if h.kid, h.hasKid = text(value); !h.hasKid {
				return h, errHeadType
			}
		case "crit", "b64":
			return h, errCritical
		}
	}
	if h.alg == 0 {
		return h, errAlgorithm
	}
	return h, nil
}

// named returns the algorithm with the name, which is case-sensitive (RFC 7515, section 4.1.1).
func named(name []byte) (algorithm, *InvalidError) {
	for a := hs256; a < algorithms; a++ {
		if string(name) == a.String() {
			return a, nil
		}
	}
	if strings.EqualFold(string(name), "none") {
		return 0, errNone
	}
	return 0, errAlgorithm
}
