package auth

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
)

// A key is named by a number, so that connections can remember which one has verified their token: the beginning of a hash
// of the key, or of a key set's URL. 0 is no key, and 1 one that is not known.

// KeyUnknown stands for a key that is not known any more.
const KeyUnknown uint32 = 1

// idOf returns the number for something.
func idOf(kind string, b []byte) uint32 {
	h := sha256.New()
	h.Write([]byte(kind)) // never fails, as below
	h.Write(b)
	return max(binary.BigEndian.Uint32(h.Sum(nil)), KeyUnknown+1)
}

// idOfKey returns the number of a public key.
func idOfKey(key any) uint32 {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil { // of no kind that a Verifier has
		return KeyUnknown
	}
	return idOf("public", der)
}

// Has reports whether tokens that a key has verified are still valid as far as the key is concerned. A nil Verifier has no
// keys. What has no token (0) needs no key.
func (v *Verifier) Has(key uint32) bool {
	if key == 0 {
		return true
	}
	return v != nil && v.ids[key]
}
