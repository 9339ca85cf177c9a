package access

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/access/auth"
	"sluice/gateway/clienttest"
)

// started returns verifiers that end with the test, and waits for them.
func started(t *testing.T, tokens *auth.Verifier, before func()) *Verifiers {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	v := NewVerifiers(tokens, 16, before)
	v.Start(ctx.Done(), 1, running.Go)
	return v
}

// asked returns a token that was submitted, and channels that close with its calls.
func asked(t *testing.T, v *Verifiers, token string, kind Kind) (x *Verification, done, waits chan struct{}) {
	t.Helper()
	done, waits = make(chan struct{}), make(chan struct{})
	x = &Verification{Token: token, Kind: kind, Done: func() { close(done) }, Waits: func() { close(waits) }}
	if !v.Submit(x) {
		t.Fatal("too many wait")
	}
	return x, done, waits
}

func TestVerdictsOfEachKind(t *testing.T) {
	secret := []byte(strings.Repeat("k", 32))
	tokens := clienttest.Verifier(t.Context(), t, auth.Options{HMACSecrets: [][]byte{secret}})
	signer, err := auth.NewHMACSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(c auth.Claims) string {
		token, err := signer.Sign(c)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	user, channel := sign(auth.Claims{User: "42"}), sign(auth.Claims{User: "42", Channel: "x"})
	v := started(t, tokens, nil)
	for _, tt := range []struct {
		token     string
		kind      Kind
		isSub, ok bool
	}{
		{user, AnyToken, false, true}, {channel, AnyToken, true, true},
		{user, ConnectionToken, false, true}, {channel, ConnectionToken, false, false},
		{channel, SubscriptionToken, false, true}, {user, SubscriptionToken, false, false},
	} {
		x, done, _ := asked(t, v, tt.token, tt.kind)
		clienttest.Receive(t, "a verdict", done)
		now := &Verification{Token: tt.token, Kind: tt.kind}
		v.Verify(now, time.Now())
		for _, x := range []*Verification{x, now} {
			if x.Verdict(); x.IsSubscription != tt.isSub || (x.Err == nil) != tt.ok || tt.ok && x.Connection.User+x.Subscription.User != "42" {
				t.Errorf("kind %d: %+v", tt.kind, x)
			}
		}
	}
}

func TestAPanicIsTheVerdict(t *testing.T) {
	tokens := clienttest.Verifier(t.Context(), t, auth.Options{HMACSecrets: [][]byte{[]byte(strings.Repeat("k", 32))}})
	x, done, _ := asked(t, started(t, tokens, func() { panic("planted") }), "token", AnyToken)
	clienttest.Receive(t, "a verdict", done)
	defer func() {
		if err, ok := recover().(error); !ok || !strings.Contains(err.Error(), "planted") {
			t.Errorf("recovered %v", err)
		}
	}()
	x.Verdict()
	t.Error("no panic")
}

// A token whose key has to be fetched does not keep others waiting.
func TestATokenThatWaitsForAKeyIsPassedOn(t *testing.T) {
	release := make(chan struct{})
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer keys.Close()
	defer close(release)
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	tokens := clienttest.Verifier(impatient, t, auth.Options{JWKSURL: keys.URL})
	_, key, _ := ed25519.GenerateKey(nil) // cannot fail
	v := started(t, tokens, nil)
	_, _, waits := asked(t, v, clienttest.SignedBy(t, key, auth.Claims{User: "42"}), AnyToken)
	clienttest.Receive(t, "the wait for the key", waits)
	other, done, _ := asked(t, v, "no token", AnyToken)
	clienttest.Receive(t, "another one's verdict", done)
	var invalid *auth.InvalidError
	if !errors.As(other.Err, &invalid) {
		t.Errorf("the other one: %v", other.Err)
	}
}

// A token that nobody waits for any more is not verified, however expensive it is.
func TestAbandonedTokensAreNotVerified(t *testing.T) {
	tokens := clienttest.Verifier(t.Context(), t, auth.Options{HMACSecrets: [][]byte{[]byte(strings.Repeat("k", 32))}})
	release := make(chan struct{})
	var verified atomic.Int64
	v := started(t, tokens, func() {
		verified.Add(1)
		<-release
	})
	_, first, _ := asked(t, v, "token", AnyToken)
	x, _, _ := asked(t, v, "token", AnyToken)
	x.Abandon()
	_, last, _ := asked(t, v, "token", AnyToken)
	close(release)
	clienttest.Receive(t, "a verdict", first)
	clienttest.Receive(t, "the last verdict", last)
	if n := verified.Load(); n != 2 {
		t.Errorf("%d tokens were verified, want 2", n)
	}
}

func TestFullQueueIsUnavailable(t *testing.T) {
	v := NewVerifiers(nil, 16, nil)
	for range 16 {
		if !v.Submit(new(Verification)) {
			t.Fatal("refused before the queue was full")
		}
	}
	x := new(Verification)
	if v.Submit(x) || x.Err != auth.ErrUnavailable {
		t.Errorf("one more than fits: %v", x.Err)
	}
	if v.Take() == nil || !v.Submit(x) {
		t.Error("no room after one was taken")
	}
}
