package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Secret is a key that deliveries are signed with.
type Secret []byte

// Lengths of a secret, in bytes.
const (
	secretMin = 24
	secretMax = 64
)

const secretPrefix = "whsec_"

// ParseSecret reads a secret as the specification writes it: "whsec_" and base64. White space
// around it is ignored. Its errors do not repeat it.
func ParseSecret(text string) (Secret, error) {
	text = strings.TrimSpace(text)
	switch {
	case text == "":
		return nil, errors.New("it is empty; write whsec_ and 24 to 64 random bytes in base64")
	case strings.HasPrefix(text, "whsk_") || strings.HasPrefix(text, "whpk_"):
		return nil, errors.New("it is an Ed25519 key, which is not supported; use a symmetric one, which begins with whsec_")
	case !strings.HasPrefix(text, secretPrefix):
		return nil, errors.New("it does not begin with whsec_")
	}
	key, err := base64.StdEncoding.DecodeString(text[len(secretPrefix):])
	if err != nil {
		return nil, errors.New("what is behind whsec_ is not base64")
	}
	if len(key) < secretMin || len(key) > secretMax {
		return nil, fmt.Errorf("it has %d bytes; from %d to %d are allowed", len(key), secretMin, secretMax)
	}
	return key, nil
}

// String hides the secret from logs.
func (s Secret) String() string { return secretPrefix + "..." }

// GoString hides the secret from logs.
func (s Secret) GoString() string { return s.String() }

// sign appends a signature of a delivery.
func (s Secret) sign(dst []byte, id, timestamp string, body []byte) []byte {
	mac := hmac.New(sha256.New, s)
	mac.Write([]byte(id)) // a hash's Write has no error, here and below
	mac.Write([]byte{'.'})
	mac.Write([]byte(timestamp))
	mac.Write([]byte{'.'})
	mac.Write(body)
	return base64.StdEncoding.AppendEncode(append(dst, "v1,"...), mac.Sum(nil))
}
