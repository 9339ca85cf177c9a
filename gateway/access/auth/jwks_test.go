package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
)

// jwksServer gives a key set, counts who asks, and can be slow or broken.
type jwksServer struct {
	*httptest.Server
	mu     sync.Mutex
	asked  int
	answer func(w http.ResponseWriter)
	hold   chan struct{} // answers wait until it is closed; nil: they do not
	failed []error       // what OnError was told
}

func newJWKSServer(t *testing.T, answer func(w http.ResponseWriter)) *jwksServer {
	s := &jwksServer{answer: answer}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked++
		answer, hold := s.answer, s.hold
		s.mu.Unlock()
		if hold != nil {
			select {
			case <-hold:
			case <-r.Context().Done():
			}
		}
		answer(w)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *jwksServer) set(answer func(w http.ResponseWriter), hold chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer, s.hold = answer, hold
}

func (s *jwksServer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func (s *jwksServer) onError(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = append(s.failed, err)
}

func (s *jwksServer) errors() []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]error(nil), s.failed...)
}

// never is a timing at which nothing happens but what a test asks for; at anytime each unknown kid has
// the set fetched, and at impatient the first answer is not waited for.
var (
	never     = timing{first: patience, fetch: patience, refresh: time.Hour, retry: time.Hour, gap: time.Hour, ask: patience}
	anytime   = timing{first: patience, fetch: patience, refresh: time.Hour, retry: time.Hour, ask: patience}
	impatient = timing{first: time.Millisecond, fetch: patience, refresh: time.Hour, retry: time.Hour, gap: time.Hour, ask: patience}
)

func (s *jwksServer) verifier(t *testing.T, tm timing) *Verifier {
	t.Helper()
	v, err := newVerifier(t.Context(), Options{JWKSURL: s.URL + "/jwks", OnError: s.onError}, tm)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// jwk is a key of a set, with members changed.
func jwk(key any, kid string, change ...string) map[string]any {
	private := false
	if _, ok := key.([]byte); ok {
		private = true
	}
	made, err := jwkset.NewJWKFromKey(key, jwkset.JWKOptions{
		Marshal: jwkset.JWKMarshalOptions{Private: private}, Metadata: jwkset.JWKMetadataOptions{KID: kid},
	})
	if err != nil {
		panic(err)
	}
	m := map[string]any{}
	if err := json.Unmarshal(must(json.Marshal(made.Marshal())), &m); err != nil {
		panic(err)
	}
	for i := 0; i < len(change); i += 2 {
		m[change[i]] = change[i+1]
	}
	return m
}

func serve(keys ...map[string]any) func(w http.ResponseWriter) {
	body := must(json.Marshal(map[string]any{"keys": keys}))
	return func(w http.ResponseWriter) { w.Write(body) }
}

func status(code int) func(w http.ResponseWriter) {
	return func(w http.ResponseWriter) { w.WriteHeader(code) }
}

// kidToken is signed by a pair and names a key.
func kidToken(t testing.TB, p pair, kid string) string {
	t.Helper()
	made, err := withKey(p.signer, kid).Sign(Claims{User: "42"})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func wantAnswer(t *testing.T, why string, v *Verifier, token string, want error) {
	t.Helper()
	if _, err := v.Connection(t.Context(), token, noon); err != want {
		t.Errorf("%s: %v, want %v", why, err, want)
	}
}

// waiting has n callers wait for the key set, and returns their answers to come.
func waiting(t *testing.T, v *Verifier, token string, n int) <-chan error {
	t.Helper()
	answers := make(chan error, n)
	for range n {
		go func() {
			_, err := v.Connection(t.Context(), token, noon)
			answers <- err
		}()
	}
	until(t, "all wait", func() bool {
		v.remote.mu.Lock()
		defer v.remote.mu.Unlock()
		return v.remote.waiting == n
	})
	return answers
}

// until waits for a condition.
func until(t *testing.T, why string, met func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !met(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("it does not happen: %s", why)
		}
	}
}

func TestKeySetsVerifyByTheirOwnAlgorithms(t *testing.T) {
	k := keys()
	s := newJWKSServer(t, serve(
		map[string]any{"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"},
		map[string]any{"kty": 7},
		map[string]any{"kty": "OKP", "crv": "Ed448", "kid": "ed448", "x": "AAAA"},
		jwk(secret, "oct"),
		jwk(k.otherRSA.key, "pss", "alg", "PS256"),
		jwk(k.otherRSA.key, "enc", "use", "enc"),
		jwk(k.ec384.key, "p384"), jwk(k.ec521.key, "p521", "alg", "ES512"), jwk(k.ec384.key, "wrong", "alg", "ES256"), jwk(k.otherRSA.key, "any"),
		jwk(k.rsa.key, "rsa", "alg", "RS256", "use", "sig", "x5u", "http://127.0.0.1:1/", "unknown", "x"),
		jwk(k.ec.key, "ec"),
		jwk(k.ed.key, "ed", "alg", "EdDSA"),
		jwk(k.ec.key, "same"), jwk(k.ed.key, "same"),
	))
	v := s.verifier(t, never)
	of := func(p pair, alg string) pair {
		p.signer = using(t, p.signer, alg)
		return p
	}
	for _, tt := range []struct {
		why  string
		p    pair
		kid  string
		want error
	}{
		{"RS256", k.rsa, "rsa", nil},
		{"RS512, of a key for RS256", of(k.rsa, "RS512"), "rsa", ErrUnavailable},
		{"RS256, of a key without alg", k.otherRSA, "any", nil},
		{"RS512, of a key without alg", of(k.otherRSA, "RS512"), "any", nil},
		{"ES256", k.ec, "ec", nil},
		{"ES384", k.ec384, "p384", nil},
		{"ES384, of another key", k.otherEC384, "p384", errSignature},
		{"ES512", k.ec521, "p521", nil},
		{"a curve that is not for the key's alg", k.ec384, "wrong", ErrUnavailable},
		{"EdDSA", k.ed, "ed", nil},
		{"the kid of two, ES256", k.ec, "same", nil},
		{"the kid of two, EdDSA", k.ed, "same", nil},
		{"another key under its kid", k.otherRSA, "rsa", errSignature},
		{"a key for PS256", k.otherRSA, "pss", ErrUnavailable},
		{"a key for encryption", k.otherRSA, "enc", ErrUnavailable},
		{"a kid of another algorithm", k.rsa, "ec", ErrUnavailable},
		{"no kid, and one key", k.ec384, "", nil},
		{"no kid, and two keys", k.ec, "", errNoKeyID},
	} {
		wantAnswer(t, tt.why, v, kidToken(t, tt.p, tt.kid), tt.want)
		if v.Cheap(kidToken(t, tt.p, tt.kid)) {
			t.Errorf("%s: cheap", tt.why)
		}
	}
	// A shared secret in a set is as public as the set.
	wantAnswer(t, "HS256 with the set's secret", v, tokenOf(t, hmacSigner(secret), `{"alg":"HS256","kid":"oct"}`, `{"sub":"42"}`), errNoKey)
	wantAnswer(t, "HS256 with a public key", v, tokenOf(t, hmacSigner(k.rsa.public), `{"alg":"HS256","kid":"rsa"}`, `{"sub":"42"}`), errNoKey)
	if n := s.count(); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

func TestConfiguredKeysComeBeforeTheSet(t *testing.T) {
	k := keys()
	s := newJWKSServer(t, serve(jwk(k.rsa.key, "rsa")))
	v, err := newVerifier(t.Context(), Options{HMACSecrets: [][]byte{secret}, PublicKeys: [][]byte{k.otherRSA.public, k.ec.public}, JWKSURL: s.URL, OnError: s.onError}, never)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	wantAnswer(t, "a configured key", v, kidToken(t, k.otherRSA, "whatever"), nil)
	wantAnswer(t, "another algorithm", v, kidToken(t, k.ec, ""), nil)
	wantAnswer(t, "the secret", v, token(t, hmacSigner(secret), `{}`), nil)
	wantAnswer(t, "the set's key", v, kidToken(t, k.rsa, "rsa"), nil)
	wantAnswer(t, "the set's key without its kid", v, kidToken(t, k.rsa, ""), nil)
	wantAnswer(t, "nobody's key", v, kidToken(t, k.otherEC, "x"), ErrUnavailable)
	if !v.Cheap(token(t, hmacSigner(secret), `{}`)) {
		t.Error("HS256 is not cheap beside a key set")
	}
}

func TestAFloodOfUnknownKidsFetchesOnce(t *testing.T) {
	k := keys()
	s := newJWKSServer(t, serve(jwk(k.ed.key, "good")))
	v := s.verifier(t, anytime)
	wantAnswer(t, "unknown, and the set was fetched since", v, kidToken(t, k.otherEd, "x"), errUnknown)
	v.remote.timing.gap = time.Hour // nobody else reads it now
	before := s.count()
	var flood sync.WaitGroup
	for i := range 8 {
		flood.Go(func() {
			for j := range 200 {
				if _, err := v.Connection(t.Context(), kidToken(t, k.otherEd, fmt.Sprintf("%d-%d", i, j)), noon); err != ErrUnavailable {
					t.Errorf("%v", err)
				}
			}
		})
	}
	flood.Wait()
	wantAnswer(t, "a known kid meanwhile", v, kidToken(t, k.ed, "good"), nil)
	if n := s.count() - before; n != 0 {
		t.Errorf("%d requests within the gap", n)
	}
	if before != 2 {
		t.Errorf("%d requests before it, want 2", before)
	}
}

// A kid that nobody has is refused for good, also while the set is too fresh to be
// fetched again; only one that is new since then may be in it by now.
func TestAKidThatNobodyHasIsRefusedForGood(t *testing.T) {
	k := keys()
	s := newJWKSServer(t, serve(jwk(k.ed.key, "good")))
	v := s.verifier(t, anytime)
	wantAnswer(t, "asked for at first", v, kidToken(t, k.otherEd, "nobody"), errUnknown)
	v.remote.timing.gap = time.Hour // nobody else reads it now
	for range 3 {
		wantAnswer(t, "asked for again, the set is fresh", v, kidToken(t, k.otherEd, "nobody"), errUnknown)
		wantAnswer(t, "new since then", v, kidToken(t, k.otherEd, "new"), ErrUnavailable)
	}
	wantAnswer(t, "of another algorithm", v, kidToken(t, k.otherEC, "nobody"), ErrUnavailable)
	s.set(status(http.StatusServiceUnavailable), nil)
	v.remote.timing.gap = 0
	wantAnswer(t, "the set cannot be fetched", v, kidToken(t, k.otherEd, "nobody"), ErrUnavailable)
}

func TestAfterTheGapAFloodFetchesOnceMore(t *testing.T) {
	k := keys()
	s := newJWKSServer(t, serve(jwk(k.ed.key, "good")))
	tm := never
	tm.gap = 200 * time.Millisecond
	v := s.verifier(t, tm)
	start, token := time.Now(), kidToken(t, k.otherEd, "x")
	until(t, "it is fetched four times", func() bool {
		for range 100 {
			v.Connection(t.Context(), token, noon) // refused
		}
		return s.count() >= 4
	})
	if n, most := s.count(), 2+int(time.Since(start)/tm.gap); n > most {
		t.Errorf("%d requests, want %d at most", n, most)
	}
}

func TestRotatedKeysAreFetchedWhenTheyAreUsed(t *testing.T) {
	k := keys()
	s := newJWKSServer(t, serve(jwk(k.rsa.key, "old")))
	v := s.verifier(t, anytime)
	wantAnswer(t, "the old key", v, kidToken(t, k.rsa, "old"), nil)
	s.set(serve(jwk(k.otherRSA.key, "new")), nil)
	wantAnswer(t, "the old key before anybody asks", v, kidToken(t, k.rsa, "old"), nil)
	wantAnswer(t, "the new key", v, kidToken(t, k.otherRSA, "new"), nil)
	wantAnswer(t, "the old key", v, kidToken(t, k.rsa, "old"), errUnknown)
}

func TestKeySetsAreRefreshed(t *testing.T) {
	k := keys()
	s := newJWKSServer(t, serve(jwk(k.ed.key, "a")))
	tm := never
	tm.refresh = 20 * time.Millisecond
	v := s.verifier(t, tm)
	s.set(serve(jwk(k.otherEd.key, "a")), nil)
	until(t, "the key is withdrawn", func() bool {
		_, err := v.Connection(t.Context(), kidToken(t, k.ed, "a"), noon)
		return err == errSignature
	})
}

func TestTheLastGoodKeysStay(t *testing.T) {
	k := keys()
	big := strings.Repeat(" ", setBytesMax)
	var many []map[string]any
	for i := range setKeysMax + 1 {
		many = append(many, jwk(k.ed.key, fmt.Sprint(i)))
	}
	elsewhere := newJWKSServer(t, serve(jwk(k.otherEd.key, "evil")))
	s := newJWKSServer(t, nil)
	for _, tt := range []struct {
		why    string
		answer func(w http.ResponseWriter)
		told   string
	}{
		{"a failure", status(http.StatusInternalServerError), "500 Internal Server Error"},
		{"nothing new", status(http.StatusNoContent), "204"},
		{"a page", func(w http.ResponseWriter) { io.WriteString(w, "<html>") }, "not a key set"},
		{"a list", func(w http.ResponseWriter) { io.WriteString(w, "[]") }, "not a key set"},
		{"no keys", serve(), "none of the 0 keys in the set"},
		{"no usable keys", serve(jwk(secret, "oct")), "none of the 1 keys in the set"},
		{"a long answer", func(w http.ResponseWriter) { io.WriteString(w, `{"keys":[]`+big+"}") }, "longer than 256 KiB"},
		{"too many keys", serve(many...), "the set has 65 keys"},
		{"a redirect", func(w http.ResponseWriter) {
			w.Header().Set("Location", elsewhere.URL)
			w.WriteHeader(http.StatusFound)
		}, "302 Found"},
		{"an end too soon", func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "{")
		}, "unexpected EOF"},
	} {
		s.set(serve(jwk(k.ed.key, "good")), nil)
		v := s.verifier(t, anytime)
		s.set(tt.answer, nil)
		before := len(s.errors())
		wantAnswer(t, tt.why+": unknown", v, kidToken(t, k.otherEd, "evil"), ErrUnavailable)
		wantAnswer(t, tt.why+": known", v, kidToken(t, k.ed, "good"), nil)
		until(t, tt.why+" is told", func() bool { return len(s.errors()) > before })
		if err := s.errors()[before]; !strings.Contains(err.Error(), tt.told) {
			t.Errorf("%s: told %v, want %q", tt.why, err, tt.told)
		}
		v.Close()
	}
	if n := elsewhere.count(); n != 0 {
		t.Errorf("%d requests followed the redirect", n)
	}
}

func TestAnEndlessAnswerIsNotRead(t *testing.T) {
	const chunk, most = 1 << 20, 64
	chunks := make(chan int, 1)
	s := newJWKSServer(t, func(w http.ResponseWriter) {
		n := 0
		for n < most {
			if _, err := w.Write(make([]byte, chunk)); err != nil {
				break
			}
			n++
		}
		chunks <- n
	})
	s.verifier(t, never)
	// What was written and not read lies in the system's buffers.
	if n := <-chunks; n > most/2 {
		t.Errorf("%d MiB were taken", n)
	}
	if errs := s.errors(); len(errs) != 1 || !strings.Contains(errs[0].Error(), "longer than 256 KiB") {
		t.Errorf("told %v", errs)
	}
}

func TestAServerThatIsDownAtTheStartIsTriedAgain(t *testing.T) {
	k := keys()
	s := newJWKSServer(t, status(http.StatusServiceUnavailable))
	tm := never
	tm.retry = 10 * time.Millisecond
	v := s.verifier(t, tm)
	if len(s.errors()) == 0 {
		t.Error("the failure is not told")
	}
	wantAnswer(t, "no keys yet", v, kidToken(t, k.ed, "a"), ErrUnavailable)
	s.set(serve(jwk(k.ed.key, "a")), nil)
	until(t, "the keys are there", func() bool {
		_, err := v.Connection(t.Context(), kidToken(t, k.ed, "a"), noon)
		return err == nil
	})
}

func TestASlowServerKeepsNobodyLong(t *testing.T) {
	k := keys()
	s := newJWKSServer(t, serve(jwk(k.ed.key, "a")))
	hold := make(chan struct{})
	s.set(serve(jwk(k.ed.key, "a")), hold)
	tm := never
	tm.first, tm.ask = 30*time.Millisecond, 50*time.Millisecond
	start := time.Now()
	v := s.verifier(t, tm)
	wantAnswer(t, "no answer yet", v, kidToken(t, k.ed, "a"), ErrUnavailable)
	if took := time.Since(start); took < 80*time.Millisecond || took > patience/2 {
		t.Errorf("it took %v", took)
	}

	// The caller may have less patience.
	v.remote.timing.ask = patience // nobody else reads it now
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := v.Connection(ctx, kidToken(t, k.ed, "a"), noon); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}

	// Only so many wait; all of them get the one answer.
	answers := waiting(t, v, kidToken(t, k.ed, "a"), waitersMax)
	wantAnswer(t, "one too many", v, kidToken(t, k.ed, "a"), ErrUnavailable)
	close(hold)
	for range waitersMax {
		if err := <-answers; err != nil {
			t.Errorf("a waiter: %v", err)
		}
	}
	if n := s.count(); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
	if v.remote.waiting != 0 {
		t.Errorf("%d wait for ever", v.remote.waiting)
	}
}

// The answer that is on its way may be older than the key.
func TestAFetchThatBeganBeforeDoesNotSettleWhatIsUnknown(t *testing.T) {
	k := keys()
	hold := make(chan struct{})
	s := newJWKSServer(t, nil)
	s.set(serve(jwk(k.ed.key, "a")), hold)
	v := s.verifier(t, impatient)
	until(t, "it asks", func() bool { return s.count() == 1 })
	waiter := waiting(t, v, kidToken(t, k.otherEd, "b"), 1)
	close(hold)
	if err := <-waiter; err != ErrUnavailable {
		t.Errorf("%v", err)
	}
}

func TestCloseEndsAFetch(t *testing.T) {
	hold := make(chan struct{})
	defer close(hold)
	s := newJWKSServer(t, nil)
	s.set(status(http.StatusOK), hold)
	v := s.verifier(t, impatient)
	until(t, "it asks", func() bool { return s.count() == 1 })
	waiter := waiting(t, v, kidToken(t, keys().ed, "a"), 1)
	v.Close()
	v.Close()
	if err := <-waiter; err != ErrUnavailable {
		t.Errorf("who waited: %v", err)
	}
	if errs := s.errors(); len(errs) != 0 {
		t.Errorf("told %v", errs)
	}
}
