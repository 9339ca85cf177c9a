package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"sync"
	"testing"
	"time"

	"sluice/poller/leaktest"
)

// patience bounds every wait for something that must happen.
const patience = time.Minute

func TestMain(m *testing.M) { leaktest.Main(m) }

// noon is the time of tests that do not wait.
var noon = time.Unix(1_800_000_000, 0)

var secret = []byte("0123456789abcdef0123456789abcdef")

// pair is a key of one algorithm.
type pair struct {
	signer  *Signer
	private []byte // PEM
	public  []byte // PEM
	der     []byte // PKIX
	key     crypto.PublicKey
}

func newPair(key crypto.Signer) pair {
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		panic(err)
	}
	p := pair{der: der, key: key.Public()}
	p.private = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	p.public = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	if p.signer, err = NewSigner(p.private, ""); err != nil {
		panic(err)
	}
	return p
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// theKeys are made once: RSA takes its time.
type theKeys struct{ rsa, ec, ec384, ec521, ed, otherRSA, otherEC, otherEC384, otherEd pair }

var keys = sync.OnceValue(func() (k theKeys) {
	for _, p := range []*pair{&k.rsa, &k.otherRSA} {
		*p = newPair(must(rsa.GenerateKey(rand.Reader, 2048)))
	}
	for _, p := range []*pair{&k.ec, &k.otherEC} {
		*p = newPair(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))
	}
	for _, p := range []*pair{&k.ec384, &k.otherEC384} {
		*p = newPair(must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)))
	}
	k.ec521 = newPair(must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)))
	for _, p := range []*pair{&k.ed, &k.otherEd} {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		*p = newPair(must(key, err))
	}
	return k
})

func hmacSigner(secret []byte) *Signer { return &Signer{alg: hs256, key: secret} }

// token signs any claims.
func token(t testing.TB, s *Signer, claims string) string {
	t.Helper()
	return tokenOf(t, s, `{"alg":"`+s.alg.String()+`","typ":"JWT"}`, claims)
}

func tokenOf(t testing.TB, s *Signer, header, claims string) string {
	t.Helper()
	out, err := s.sign([]byte(header), []byte(claims))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// withKey names a key.
func withKey(s *Signer, kid string) *Signer { return &Signer{alg: s.alg, key: s.key, keyID: kid} }

func verifier(t testing.TB, o Options) *Verifier {
	t.Helper()
	v, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// full has a key of every algorithm.
func full(t testing.TB) *Verifier {
	k := keys()
	return verifier(t, Options{HMACSecrets: [][]byte{secret}, PublicKeys: [][]byte{k.rsa.public, k.ec.public, k.ec384.public, k.ec521.public, k.ed.public}})
}

func quote(s string) string { return string(must(json.Marshal(s))) }

// using returns a signer with the same key for another algorithm.
func using(t testing.TB, s *Signer, alg string) *Signer {
	t.Helper()
	other, err := s.Using(alg)
	if err != nil {
		t.Fatal(err)
	}
	return other
}
