package auth

import (
	"testing"
)

const benchClaims = `{"sub":"user-4242","exp":1800003600,"iat":1799999999,"info":{"name":"Ada","avatar":"https://example.com/a.png"},"channels":["news","user-4242"]}`

func BenchmarkConnection(b *testing.B) {
	k := keys()
	for _, bb := range []*Signer{hmacSigner(secret), k.rsa.signer, k.ec.signer, k.ed.signer} {
		b.Run(bb.alg.String(), func(b *testing.B) {
			v, made := full(b), token(b, bb, benchClaims)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Connection(b.Context(), made, noon); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRefused(b *testing.B) {
	v := full(b)
	made := token(b, hmacSigner(make([]byte, 32)), benchClaims)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Connection(b.Context(), made, noon); err != errSignature {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheap(b *testing.B) {
	v, made := full(b), token(b, hmacSigner(secret), benchClaims)
	b.ReportAllocs()
	for b.Loop() {
		if !v.Cheap(made) {
			b.Fatal("dear")
		}
	}
}
