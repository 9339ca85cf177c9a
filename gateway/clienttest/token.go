package clienttest

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"testing"

	"sluice/gateway/access/auth"
)

// Verifier verifies tokens until the test ends. Where ctx is over it does not wait for a key set.
func Verifier(ctx context.Context, t testing.TB, o auth.Options) *auth.Verifier {
	t.Helper()
	v, err := auth.New(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// PublicPEM writes a public key.
func PublicPEM(t testing.TB, public any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// SignedBy signs what tests need with a private key, which it names.
func SignedBy(t testing.TB, private any, c auth.Claims) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := auth.NewSigner(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), "k")
	if err != nil {
		t.Fatal(err)
	}
	token, err := signer.Sign(c)
	if err != nil {
		t.Fatal(err)
	}
	return token
}
