package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// Options tells a [Verifier] which tokens to take. At least one of HMACSecrets, PublicKeys
// and JWKSURL has to be there; a token's alg decides which of them it is checked with.
type Options struct {
	// HMACSecrets are for HS256, each of at least 32 bytes. A token is checked with one after
	// the other, whatever its kid says: while a secret is replaced the new one and the old one
	// are both here. Eight at most. They are copied.
	HMACSecrets [][]byte
	// PublicKeys are texts in PEM, each with one or more public keys or certificates, of
	// which the key alone counts: RSA of 2048 to 8192 bits for RS256, P-256 for ES256,
	// Ed25519 for EdDSA. Eight keys at most.
	PublicKeys [][]byte
	// JWKSURL is where a key set with keys as above is fetched: https, or http when the
	// host is this machine.
	JWKSURL string

	// Audience, if not empty, has to be (among) the token's aud.
	Audience string
	// Issuer, if not empty, has to be the token's iss.
	Issuer string
	// Leeway is granted to nbf, because clocks differ, and a client that is refused for
	// that does not come again. It is not granted to exp: a client whose token has
	// expired fetches a fresh one, and a connection that is let in by leeway would have
	// no time left. Zero means 30 s, negative none; at most 5 min.
	Leeway time.Duration

	// OnError is told why the key set could not be fetched, by a goroutine of the Verifier
	// or by New. It may be nil. It must not call the Verifier's Close.
	OnError func(error)
}

const (
	leewayDefault = 30 * time.Second
	leewayMax     = 5 * time.Minute
)

// Verifier verifies tokens. Its methods may be called at any time from any goroutine,
// but for Close, after which no other may be.
type Verifier struct {
	// Set at construction.
	secrets          []any // each a []byte, which is what the library takes
	keys             keyring
	audience, issuer string
	leeway           time.Duration
	remote           *remote // nil without a key set
}

// New checks the options, and reports every fault at once. With a JWKSURL it waits up to
// 5 s for the first answer; that there is none goes to OnError, and is no fault: later
// ones may be better. ctx ends that wait alone.
func New(ctx context.Context, o Options) (*Verifier, error) {
	return newVerifier(ctx, o, defaultTiming)
}

func newVerifier(ctx context.Context, o Options, t timing) (*Verifier, error) {
	v := &Verifier{audience: o.Audience, issuer: o.Issuer, leeway: o.Leeway}
	var faults []error
	faults = append(faults, CheckSecretCount(len(o.HMACSecrets)))
	for _, secret := range o.HMACSecrets {
		faults = append(faults, CheckSecret(secret))
		v.secrets = append(v.secrets, bytes.Clone(secret))
	}
	for _, text := range o.PublicKeys {
		if err := v.keys.addPEM(text); err != nil {
			faults = append(faults, fmt.Errorf("public key: %w", err))
		}
	}
	switch {
	case o.Leeway == 0:
		v.leeway = leewayDefault
	case o.Leeway < 0:
		v.leeway = 0
	case o.Leeway > leewayMax:
		faults = append(faults, fmt.Errorf("leeway %v: clocks do not differ by that much: give %v at most", o.Leeway, leewayMax))
	}
	if len(o.HMACSecrets) == 0 && len(o.PublicKeys) == 0 && o.JWKSURL == "" {
		faults = append(faults, errors.New("no key: give a secret, a public key or the URL of a key set"))
	}
	if o.JWKSURL != "" {
		if err := CheckJWKSURL(o.JWKSURL); err != nil {
			faults = append(faults, err)
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	if o.JWKSURL != "" {
		v.remote = newRemote(o.JWKSURL, o.OnError, t)
		v.remote.start(ctx)
	}
	return v, nil
}

// Close ends fetching, and waits for that. It may be called more than once.
func (v *Verifier) Close() {
	if v.remote != nil {
		v.remote.close()
	}
}

// Cheap tells whether Connection and Subscription take microseconds for this token, so
// that an event loop may call them: it is signed with HS256, or refused at once. For
// others there is arithmetic of up to a millisecond, or a wait for a key set.
func (v *Verifier) Cheap(token string) bool {
	p, bad := split(token)
	if bad != nil {
		return true
	}
	h, bad := parseHeader(p.header)
	return bad != nil || h.alg == hs256 || len(v.keys[h.alg]) == 0 && v.remote == nil
}

// Connection verifies a connection token. Its errors are [ErrExpired], [ErrUnavailable],
// an [*InvalidError], or ctx's while it waits for a key set. With a ctx that has ended it
// does not wait: the set is asked for all the same.
func (v *Verifier) Connection(ctx context.Context, token string, now time.Time) (Connection, error) {
	c, _, err := v.verify(ctx, token)
	if err == nil && c.isSub {
		err = errIsSub
	}
	if err == nil {
		err = v.check(&c, now)
	}
	if err != nil {
		return Connection{}, err
	}
	return c.connection(), nil
}

// Subscription verifies a subscription token, with the errors of [Verifier.Connection].
func (v *Verifier) Subscription(ctx context.Context, token string, now time.Time) (Subscription, error) {
	c, _, err := v.verify(ctx, token)
	if err == nil && !c.isSub {
		err = errIsNotSub
	}
	if err == nil {
		err = v.check(&c, now)
	}
	if err != nil {
		return Subscription{}, err
	}
	return c.subscription(), nil
}

// Either verifies a token of either kind, once. isSub reports which of the two results
// holds. The errors are those of [Verifier.Connection].
func (v *Verifier) Either(ctx context.Context, token string, now time.Time) (conn Connection, sub Subscription, isSub bool, err error) {
	c, _, err := v.verify(ctx, token)
	if err == nil {
		err = v.check(&c, now)
	}
	switch {
	case err != nil:
	case c.isSub:
		sub = c.subscription()
	default:
		conn = c.connection()
	}
	return conn, sub, c.isSub, err
}

func (c *claims) connection() Connection {
	return Connection{User: c.user, ExpireAt: c.end(), Info: c.info, Meta: c.meta, Channels: c.channels, Subs: c.subs}
}

func (c *claims) subscription() Subscription {
	return Subscription{User: c.user, Channel: c.channel, Client: c.client, ExpireAt: c.end(), Info: c.info}
}

// Claims verifies a token of either kind and gives its claims as they stand, in JSON,
// with the errors of [Verifier.Connection].
func (v *Verifier) Claims(ctx context.Context, token string, now time.Time) ([]byte, error) {
	c, raw, err := v.verify(ctx, token)
	if err != nil {
		return nil, err
	}
	return raw, v.check(&c, now)
}

// verify checks the signature and reads the claims, in this order.
func (v *Verifier) verify(ctx context.Context, token string) (c claims, raw []byte, err error) {
	p, bad := split(token)
	if bad != nil {
		return c, nil, bad
	}
	h, bad := parseHeader(p.header)
	if bad != nil {
		return c, nil, bad
	}
	signature, err := base64url.DecodeString(p.signature)
	if err != nil {
		return c, nil, errBase64
	}
	if err := v.checkSignature(ctx, h, p.signed, signature); err != nil {
		return c, nil, err
	}
	if raw, err = base64url.DecodeString(p.claims); err != nil {
		return c, nil, errBase64
	}
	if c, bad = v.parseClaims(raw); bad != nil {
		return c, nil, bad
	}
	return c, raw, nil
}

// checkSignature tries the keys of the header's algorithm, and no other.
func (v *Verifier) checkSignature(ctx context.Context, h header, signed string, signature []byte) error {
	method := methods[h.alg]
	if h.alg == hs256 {
		for _, secret := range v.secrets {
			if method.Verify(signed, signature, secret) == nil {
				return nil
			}
		}
		if len(v.secrets) == 0 {
			return errNoKey
		}
		return errSignature
	}
	for _, key := range v.keys[h.alg] {
		if method.Verify(signed, signature, key) == nil {
			return nil
		}
	}
	switch {
	case v.remote != nil:
		key, err := v.remote.key(ctx, h)
		if err != nil {
			return err
		}
		if method.Verify(signed, signature, key) == nil {
			return nil
		}
	case len(v.keys[h.alg]) == 0:
		return errNoKey
	}
	return errSignature
}
