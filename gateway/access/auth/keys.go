package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// secretBytesMin is the minimum for HS256 (RFC 7518, section 3.2). For HS384 and HS512 the RFC asks for as many bytes as
	// the hash has, which would make a guess no less likely: 32 random bytes cannot be guessed.
	secretBytesMin = 32
	// RFC 7518, section 3.3 requires 2048 bits. Keys beyond the maximum only cost time,
	// which grows with the square of their length.
	rsaBitsMin = 2048
	rsaBitsMax = 8192
	// publicKeysMax and secretsMax bound what one bad signature costs: all keys of an algorithm.
	publicKeysMax = 8
	secretsMax    = 8
)

// methods make and check the signatures of the algorithms.
var methods = [algorithms]jwt.SigningMethod{
	hs256: jwt.SigningMethodHS256, hs384: jwt.SigningMethodHS384, hs512: jwt.SigningMethodHS512,
	rs256: jwt.SigningMethodRS256, rs384: jwt.SigningMethodRS384, rs512: jwt.SigningMethodRS512,
	es256: jwt.SigningMethodES256, es384: jwt.SigningMethodES384, es512: jwt.SigningMethodES512, edDSA: jwt.SigningMethodEdDSA,
}

// CheckSecret reports whether a secret is fit for HS256, HS384 and HS512. Its error says why not, and how to make one.
func CheckSecret(secret []byte) error {
	switch {
	case len(secret) < secretBytesMin:
		return fmt.Errorf("the secret is %d bytes long but must be at least %d; a shorter one can be guessed from a token. Generate one with 'sluice token secret' or 'openssl rand -hex 32'", len(secret), secretBytesMin)
	case strings.Contains(string(secret), "-----BEGIN "):
		// The classic confusion: anyone who knows the public key could sign with it.
		return errors.New("the secret is a PEM key or certificate: anyone who knows the public key could sign tokens; use the public-key setting for public keys, and generate a secret with 'sluice token secret'")
	}
	return nil
}

// CheckSecretCount returns an error if n secrets are too many for a [Verifier].
func CheckSecretCount(n int) error {
	if n > secretsMax {
		return fmt.Errorf("too many secrets (%d): a token may be checked against all of them; use at most %d", n, secretsMax)
	}
	return nil
}

// CheckPublicKey returns an error if the texts are not fit for Options.PublicKeys, one by
// one or together.
func CheckPublicKey(texts ...[]byte) error {
	var all keyring
	for _, text := range texts {
		if err := all.addPEM(text); err != nil {
			return err
		}
	}
	return nil
}

// algorithmOf returns the algorithm of a public key: that of its family.
func algorithmOf(key any) (algorithm, error) {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < rsaBitsMin || bits > rsaBitsMax {
			return 0, fmt.Errorf("RSA key has %d bits, must have %d to %d", bits, rsaBitsMin, rsaBitsMax)
		}
		return rs256, nil
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			return es256, nil
		case elliptic.P384():
			return es384, nil
		case elliptic.P521():
			return es512, nil
		}
		return 0, fmt.Errorf("EC key is on the curve %s, must be on P-256, P-384 or P-521", key.Curve.Params().Name)
	case ed25519.PublicKey:
		return edDSA, nil
	}
	return 0, fmt.Errorf("unsupported key type %T: use an RSA, EC or Ed25519 key", key)
}

// keyring holds the configured public keys, by the family of their algorithm.
type keyring [algorithms][]any

func (k *keyring) count() (n int) {
	for _, keys := range k {
		n += len(keys)
	}
	return n
}

// addPEM adds all public keys of a PEM text.
func (k *keyring) addPEM(text []byte) error {
	before := k.count()
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		key, err := parsePublic(block)
		if err != nil {
			return err
		}
		alg, err := algorithmOf(key)
		if err != nil {
			return err
		}
		k[alg] = append(k[alg], key)
	}
	switch n := k.count(); {
	case n == before:
		return errors.New("it contains no PEM public key; use the output of 'openssl pkey -pubout'")
	case n > publicKeysMax:
		return fmt.Errorf("too many public keys (%d): a token may be checked against all of them; use at most %d", n, publicKeysMax)
	}
	return nil
}

func parsePublic(block *pem.Block) (any, error) {
	switch {
	case block.Type == "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case block.Type == "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case block.Type == "CERTIFICATE":
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return c.PublicKey, nil
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		return nil, errors.New("it contains a private key; verification needs only the public key, which you can extract with 'openssl pkey -pubout'")
	}
	return nil, fmt.Errorf("unsupported PEM block type %q: use a public key", block.Type)
}
