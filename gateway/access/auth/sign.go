package auth

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// Claims are the claims of a token to sign; see the package comment for each. Zero values
// are left out.
type Claims struct {
	User      string          `json:"sub,omitempty"`
	Channel   string          `json:"channel,omitempty"` // makes it a subscription token
	Client    string          `json:"client,omitempty"`
	Audience  string          `json:"aud,omitempty"`
	Issuer    string          `json:"iss,omitempty"`
	ID        string          `json:"jti,omitempty"`
	ExpiresAt int64           `json:"exp,omitempty"` // Unix seconds, as are the other times
	NotBefore int64           `json:"nbf,omitempty"`
	IssuedAt  int64           `json:"iat,omitempty"`
	Info      json.RawMessage `json:"info,omitempty"`
	Meta      json.RawMessage `json:"meta,omitempty"`
	Channels  []string        `json:"channels,omitempty"`
}

// Signer signs tokens with one key. It is safe for concurrent use.
type Signer struct {
	alg   algorithm
	key   any
	keyID string
}

// NewHMACSigner returns a Signer for HS256. The secret is one of those that a [Verifier]
// has in Options.HMACSecrets; see [CheckSecret]. It is copied.
func NewHMACSigner(secret []byte) (*Signer, error) {
	if err := CheckSecret(secret); err != nil {
		return nil, err
	}
	return &Signer{alg: hs256, key: append([]byte(nil), secret...)}, nil
}

// NewSigner returns a Signer for the first private key in a PEM text (PKCS #8, PKCS #1 or
// SEC 1, not encrypted): RS256 for RSA, ES256 for P-256, EdDSA for Ed25519. If keyID is not
// empty, it is the kid in the token's header, for key sets.
func NewSigner(privateKey []byte, keyID string) (*Signer, error) {
	for {
		block, rest := pem.Decode(privateKey)
		if block == nil {
			return nil, errors.New("there is no PEM private key in it: give an RSA, P-256 or Ed25519 key, such as 'openssl genpkey -algorithm ed25519' makes")
		}
		privateKey = rest
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		key, err := parsePrivate(block)
		if err != nil {
			return nil, err
		}
		alg, err := algorithmOf(key.Public())
		if err != nil {
			return nil, err
		}
		return &Signer{alg: alg, key: key, keyID: keyID}, nil
	}
}

func parsePrivate(block *pem.Block) (crypto.Signer, error) {
	if strings.HasPrefix(block.Type, "ENCRYPTED") || block.Headers["DEK-Info"] != "" {
		return nil, errors.New("the private key is encrypted: decrypt it with 'openssl pkey'")
	}
	var key any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %T: give an RSA, P-256 or Ed25519 key", key)
	}
	return signer, nil
}

// Algorithm returns the signer's algorithm, as in a header's alg.
func (s *Signer) Algorithm() string { return s.alg.String() }

// Sign returns a token with the claims, which it does not check.
func (s *Signer) Sign(c Claims) (string, error) {
	var b bytes.Buffer
	out := json.NewEncoder(&b)
	out.SetEscapeHTML(false) // info goes to clients as it was given
	if err := out.Encode(c); err != nil {
		return "", fmt.Errorf("claims: %w", err)
	}
	h := struct {
		Alg string `json:"alg"`
		Kid string `json:"kid,omitempty"`
		Typ string `json:"typ"`
	}{s.alg.String(), s.keyID, "JWT"}
	head, err := json.Marshal(h)
	if err != nil {
		return "", fmt.Errorf("header: %w", err)
	}
	return s.sign(head, bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

// sign signs any bytes; tests use it to make bad tokens.
func (s *Signer) sign(header, claims []byte) (string, error) {
	signed := base64url.EncodeToString(header) + "." + base64url.EncodeToString(claims)
	signature, err := methods[s.alg].Sign(signed, s.key)
	if err != nil {
		return "", err
	}
	return signed + "." + base64url.EncodeToString(signature), nil
}
