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
	// secretBytesMin is what RFC 7518, section 3.2 demands of a key for HS256.
	secretBytesMin = 32
	// RFC 7518, section 3.3 demands 2048 bits. Longer keys than these only cost time,
	// which grows with the square.
	rsaBitsMin = 2048
	rsaBitsMax = 8192
	// publicKeysMax and secretsMax bound what one bad signature costs: all keys of an algorithm.
	publicKeysMax = 8
	secretsMax    = 8
)

// methods are how signatures of the algorithms are made and checked.
var methods = [algorithms]jwt.SigningMethod{
	hs256: jwt.SigningMethodHS256, rs256: jwt.SigningMethodRS256, es256: jwt.SigningMethodES256, edDSA: jwt.SigningMethodEdDSA,
}

// CheckSecret tells what is wrong with a secret for HS256, why, and how to make one.
func CheckSecret(secret []byte) error {
	switch {
	case len(secret) < secretBytesMin:
		return fmt.Errorf("the secret has %d bytes: with fewer than %d somebody who sees a token can guess it: make one with 'sluice token secret' or 'openssl rand -hex 32'", len(secret), secretBytesMin)
	case strings.Contains(string(secret), "-----BEGIN "):
		// The classic confusion: who knows the public key could sign with it.
		return errors.New("the secret is a key or certificate in PEM: whoever knows that could make tokens: give a public key as such, and make a secret with 'sluice token secret'")
	}
	return nil
}

// CheckSecretCount returns what is wrong with so many secrets, if anything is.
func CheckSecretCount(n int) error {
	if n > secretsMax {
		return fmt.Errorf("%d secrets: each may have to be tried for a token: give %d at most", n, secretsMax)
	}
	return nil
}

// CheckPublicKey tells what is wrong with texts for Options.PublicKeys, each of them or
// all together.
func CheckPublicKey(texts ...[]byte) error {
	var all keyring
	for _, text := range texts {
		if err := all.addPEM(text); err != nil {
			return err
		}
	}
	return nil
}

// algorithmOf gives the one algorithm of a public key.
func algorithmOf(key any) (algorithm, error) {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < rsaBitsMin || bits > rsaBitsMax {
			return 0, fmt.Errorf("an RSA key of %d bits: give one of %d to %d", bits, rsaBitsMin, rsaBitsMax)
		}
		return rs256, nil
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() {
			return 0, fmt.Errorf("a key of the curve %s: give one of P-256", key.Curve.Params().Name)
		}
		return es256, nil
	case ed25519.PublicKey:
		return edDSA, nil
	}
	return 0, fmt.Errorf("a key of type %T: give one of RSA, P-256 or Ed25519", key)
}

// keyring holds the public keys of the configuration by algorithm.
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
		return errors.New("no public key in PEM is in it: give what 'openssl pkey -pubout' prints")
	case n > publicKeysMax:
		return fmt.Errorf("%d public keys: each may have to be tried for a token: give %d at most", n, publicKeysMax)
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
		return nil, errors.New("a private key is in it: whoever verifies should not be able to sign: give the public key, 'openssl pkey -pubout' makes it")
	}
	return nil, fmt.Errorf("a PEM block %q: give a public key", block.Type)
}
