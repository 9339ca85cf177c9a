package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// Options are the settings of a [Verifier]. At least one of HMACSecrets, PublicKeys and
// JWKSURL must be set; a token's alg decides which of them it is checked with.
type Options struct {
	// HMACSecrets are the secrets for HS256, HS384 and HS512, at most eight, each of at least 32 bytes. A token
	// is checked with one after the other, whatever its kid: to replace a secret, list the
	// new one beside the old one for a while. They are copied.
	HMACSecrets [][]byte
	// PublicKeys are PEM texts, each with one or more public keys or certificates, of which
	// only the key is used: RSA of 2048 to 8192 bits for RS256, RS384 and RS512, P-256, P-384 and P-521 for
	// ES256, ES384 and ES512, Ed25519 for EdDSA. At most eight keys in all.
	PublicKeys [][]byte
	// JWKSURL is the address of a key set with keys as above: https, or http if the host is
	// this machine.
	JWKSURL string

	// Audience, if not empty, must be the token's aud or one of its elements.
	Audience string
	// Issuer, if not empty, must be the token's iss.
	Issuer string
	// Leeway is how long before its nbf a token is accepted, because clocks differ, and a
	// client that is refused for that does not try again. There is none for exp: a client
	// whose token has expired fetches a fresh one, and a connection accepted by leeway
	// would have no time left. Zero means 30 s, negative none; the maximum is 5 min.
	Leeway time.Duration

	// OnError, if not nil, is called with the reason when the key set cannot be fetched, by a
	// goroutine of the Verifier or by New. It must not call the Verifier's Close.
	OnError func(error)
}

const (
	leewayDefault = 30 * time.Second
	leewayMax     = 5 * time.Minute
)

// Verifier verifies tokens. It is safe for concurrent use. No other method may be called
// after Close.
type Verifier struct {
	// Set at construction.
	secrets          []any // each a []byte, which the library expects
	keys             keyring
	audience, issuer string
	leeway           time.Duration
	remote           *remote // nil without a key set
	secretIDs        []uint32
	keyIDs           [algorithms][]uint32 // of keys
	remoteID         uint32
	ids              map[uint32]bool // of all keys
}

// New returns a Verifier, or all errors in the options at once. With a JWKSURL it waits up
// to 5 s for the first response. A failure of that fetch is no error: OnError is called, and
// later fetches may succeed. ctx ends only that wait.
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
		faults = append(faults, fmt.Errorf("leeway %v is larger than any reasonable clock skew; use at most %v", o.Leeway, leewayMax))
	}
	if len(o.HMACSecrets) == 0 && len(o.PublicKeys) == 0 && o.JWKSURL == "" {
		faults = append(faults, errors.New("no key is configured: specify a secret, a public key or the URL of a key set"))
	}
	if o.JWKSURL != "" {
		if err := CheckJWKSURL(o.JWKSURL); err != nil {
			faults = append(faults, err)
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	v.identify(o.JWKSURL)
	if o.JWKSURL != "" {
		v.remote = newRemote(o.JWKSURL, o.OnError, t)
		v.remote.start(ctx)
	}
	return v, nil
}

// identify names the keys.
func (v *Verifier) identify(url string) {
	v.ids = make(map[uint32]bool)
	for _, secret := range v.secrets {
		v.secretIDs = append(v.secretIDs, idOf("secret", secret.([]byte)))
		v.ids[v.secretIDs[len(v.secretIDs)-1]] = true
	}
	for f, keys := range v.keys {
		for _, key := range keys {
			id := idOfKey(key)
			v.keyIDs[f], v.ids[id] = append(v.keyIDs[f], id), true
		}
	}
	if url != "" {
		v.remoteID = idOf("set", []byte(url))
		v.ids[v.remoteID] = true
	}
}

// Close stops fetching and waits for that. It may be called more than once.
func (v *Verifier) Close() {
	if v.remote != nil {
		v.remote.close()
	}
}

// Cheap reports whether Connection and Subscription take only microseconds for this token,
// so that an event loop may call them: the token is signed with a secret, or refused at once.
// Others take up to a millisecond of arithmetic, or wait for a key set.
func (v *Verifier) Cheap(token string) bool {
	p, bad := split(token)
	if bad != nil {
		return true
	}
	h, bad := parseHeader(p.header)
	return bad != nil || h.alg.family() == hs256 || len(v.keys[h.alg.family()]) == 0 && v.remote == nil
}

// Connection verifies a connection token. It returns [ErrExpired], [ErrUnavailable], an
// [*InvalidError], or ctx's error if ctx ends while it waits for a key set. If ctx has ended
// already it does not wait, but the key set is fetched all the same.
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

// Subscription verifies a subscription token. Its errors are those of [Verifier.Connection].
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

// Either verifies a token of either kind. isSub reports which of the two results is set. The
// errors are those of [Verifier.Connection].
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
	return Connection{User: c.user, ExpireAt: c.end(), Info: c.info, Meta: c.meta, Channels: c.channels, Subs: c.subs, Key: c.key}
}

func (c *claims) subscription() Subscription {
	return Subscription{User: c.user, Channel: c.channel, Client: c.client, ExpireAt: c.end(), Info: c.info, Key: c.key}
}

// Claims verifies a token of either kind and returns its claims as they are, in JSON. Its
// errors are those of [Verifier.Connection]; with [ErrExpired] the claims are returned too.
func (v *Verifier) Claims(ctx context.Context, token string, now time.Time) ([]byte, error) {
	c, raw, err := v.verify(ctx, token)
	if err != nil {
		return nil, err
	}
	return raw, v.check(&c, now)
}

// verify checks the signature, then reads the claims.
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
	key, err := v.checkSignature(ctx, h, p.signed, signature)
	if err != nil {
		return c, nil, err
	}
	if raw, err = base64url.DecodeString(p.claims); err != nil {
		return c, nil, errBase64
	}
	if c, bad = v.parseClaims(raw); bad != nil {
		return c, nil, bad
	}
	c.key = key
	return c, raw, nil
}

// checkSignature tries the keys of the header's algorithm, and no others. It returns which one fits.
func (v *Verifier) checkSignature(ctx context.Context, h header, signed string, signature []byte) (id uint32, err error) {
	method := methods[h.alg]
	if h.alg.family() == hs256 {
		for i, secret := range v.secrets {
			if method.Verify(signed, signature, secret) == nil {
				return v.secretIDs[i], nil
			}
		}
		if len(v.secrets) == 0 {
			return 0, errNoKey
		}
		return 0, errSignature
	}
	for i, key := range v.keys[h.alg.family()] {
		if method.Verify(signed, signature, key) == nil {
			return v.keyIDs[h.alg.family()][i], nil
		}
	}
	switch {
	case v.remote != nil:
		key, err := v.remote.key(ctx, h)
		if err != nil {
			return 0, err
		}
		if method.Verify(signed, signature, key) == nil {
			return v.remoteID, nil
		}
	case len(v.keys[h.alg.family()]) == 0:
		return 0, errNoKey
	}
	return 0, errSignature
}
