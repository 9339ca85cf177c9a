package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
)

// The library makes the tokens here, so that our own signer cannot be wrong in the same
// way as the verifier.
func TestTokensOfEveryAlgorithmPass(t *testing.T) {
	v, k := full(t), keys()
	private := func(p pair) any {
		return must(x509.ParsePKCS8PrivateKey(must(decodePEM(p.private))))
	}
	for _, tt := range []struct {
		method jwt.SigningMethod
		key    any
		cheap  bool
	}{
		{jwt.SigningMethodHS256, secret, true},
		{jwt.SigningMethodHS384, secret, true},
		{jwt.SigningMethodHS512, secret, true},
		{jwt.SigningMethodRS256, private(k.rsa), false},
		{jwt.SigningMethodRS384, private(k.rsa), false},
		{jwt.SigningMethodRS512, private(k.rsa), false},
		{jwt.SigningMethodES256, private(k.ec), false},
		{jwt.SigningMethodES384, private(k.ec384), false},
		{jwt.SigningMethodES512, private(k.ec521), false},
		{jwt.SigningMethodEdDSA, private(k.ed), false},
	} {
		made, err := jwt.NewWithClaims(tt.method, jwt.MapClaims{"sub": "42", "exp": noon.Unix() + 1}).SignedString(tt.key)
		if err != nil {
			t.Fatal(err)
		}
		got, err := v.Connection(t.Context(), made, noon)
		wantKey(t, v, &got.Key)
		if diff := cmp.Diff(Connection{User: "42", ExpireAt: noon.Unix() + 1}, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", tt.method.Alg(), err, diff)
		}
		if got := v.Cheap(made); got != tt.cheap {
			t.Errorf("%s: cheap %v, want %v", tt.method.Alg(), got, tt.cheap)
		}
	}
}

func decodePEM(text []byte) ([]byte, error) {
	block, _ := pem.Decode(text)
	return block.Bytes, nil
}

func TestSignersMakeWhatTheLibraryTakes(t *testing.T) {
	k := keys()
	for _, tt := range []struct {
		signer *Signer
		key    any
	}{
		{must(NewHMACSigner(secret)), secret}, {using(t, hmacSigner(secret), "HS384"), secret}, {using(t, hmacSigner(secret), "HS512"), secret},
		{k.rsa.signer, k.rsa.key}, {using(t, k.rsa.signer, "RS384"), k.rsa.key}, {using(t, k.rsa.signer, "RS512"), k.rsa.key},
		{k.ec.signer, k.ec.key}, {k.ec384.signer, k.ec384.key}, {k.ec521.signer, k.ec521.key}, {k.ed.signer, k.ed.key},
	} {
		made, err := withKey(tt.signer, "k1").Sign(Claims{
			User: "42", Channel: "news", Audience: "a", Issuer: "i", ID: "j", Client: "c",
			ExpiresAt: 4_000_000_000, NotBefore: 1, IssuedAt: 2, Info: json.RawMessage(`{"n":1}`), Channels: []string{"x"},
		})
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := jwt.Parse(made, func(*jwt.Token) (any, error) { return tt.key, nil }, jwt.WithValidMethods([]string{tt.signer.alg.String()}))
		if err != nil {
			t.Fatalf("%s: %v", tt.signer.alg.String(), err)
		}
		want := map[string]any{
			"sub": "42", "channel": "news", "aud": "a", "iss": "i", "jti": "j", "client": "c", "exp": 4e9, "nbf": 1., "iat": 2.,
			"info": map[string]any{"n": 1.}, "channels": []any{"x"},
		}
		if diff := cmp.Diff(want, map[string]any(parsed.Claims.(jwt.MapClaims))); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(map[string]any{"alg": tt.signer.alg.String(), "kid": "k1", "typ": "JWT"}, parsed.Header); diff != "" {
			t.Error(diff)
		}
	}
}

func TestWhatConnectionTokensSay(t *testing.T) {
	v := verifier(t, Options{HMACSecrets: [][]byte{secret}, Audience: "push", Issuer: "shop"})
	base := `"aud":"push","iss":"shop"`
	long := strings.Repeat("c", 255)
	var hundreds []string
	for i := range 400 {
		hundreds = append(hundreds, strconv.FormatInt(int64(i), 36))
	}
	for _, tt := range []struct {
		claims string
		want   Connection
	}{
		{`{` + base + `}`, Connection{}},
		{` {"sub" : "a\u00e9\"" , ` + base + "}\n", Connection{User: `aé"`}},
		{`{"sub":42,` + base + `}`, Connection{User: "42"}},
		{`{"sub":-7 ,` + base + `}`, Connection{User: "-7"}},
		{`{"sub":0,` + base + `}`, Connection{User: "0"}},
		{`{"sub":123456789012345678901234567890,` + base + `}`, Connection{User: "123456789012345678901234567890"}},
		{`{"sub":"","aud":["x","push"],"iss":"shop","jti":"1","iat":1.5,"nbf":1,"exp":1800000000.9e0}`, Connection{}},
		{`{"sub":"u","exp":1800000001,"expire_at":0,` + base + `}`, Connection{User: "u"}},
		{`{"expire_at":1800000009,"exp":1800000001,` + base + `}`, Connection{ExpireAt: 1_800_000_009}},
		{`{"exp":1.800000005e9,` + base + `}`, Connection{ExpireAt: 1_800_000_005}},
		{`{"aud":["x","push","y"],"iss":"shop"}`, Connection{}},
		{"{\"info\": {\n \"n\": [1, 2.50, \"a\\n]}\"]\r\n}," + base + "}", Connection{Info: []byte(`{"n":[1,2.50,"a\n]}"]}`)}},
		{`{"info":12345678901234567890,` + base + `}`, Connection{Info: []byte("12345678901234567890")}},
		{`{"info":null,"meta":{"a":true},` + base + `}`, Connection{Meta: []byte(`{"a":true}`)}},
		{`{"info":1,"b64info":"eyJhIjoxfQ==",` + base + `}`, Connection{Info: []byte(`{"a":1}`)}},
		{`{"info":1,"b64info":"",` + base + `}`, Connection{Info: []byte("1")}},
		{`{"channels":["a","b","a","` + long + `"],` + base + `}`, Connection{Channels: []string{"a", "b", long}}},
		{`{"channels":` + strings.TrimSuffix(channelList(400), "]") + "," + strings.TrimPrefix(channelList(400), "[") + `,` + base + `}`, Connection{Channels: hundreds}},
		{`{"channels":[],"subs":{"a":{},"b":{"info":{"x":1},"data":1,"override":{"presence":{"value":false}}},"c":{"b64info":"MQ=="}},` + base + `}`,
			Connection{Subs: map[string]SubOptions{"a": {}, "b": {Info: []byte(`{"x":1}`)}, "c": {Info: []byte("1")}}}},
		{`{"nbf":1800000030,"x":[[{"a":"}"}],"]"],"sub":"u","SUB":1,"Exp":"never",` + base + `}`, Connection{User: "u"}},
		{`{"client":"only subscriptions have one",` + base + `}`, Connection{}},
	} {
		got, err := v.Connection(t.Context(), token(t, hmacSigner(secret), tt.claims), time.Unix(1_800_000_000, 999_999_999))
		if strings.Contains(tt.claims, "000.9e0") { // rounded down, it is now
			if err != ErrExpired {
				t.Errorf("%s: %v", tt.claims, err)
			}
			continue
		}
		wantKey(t, v, &got.Key)
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", tt.claims, err, diff)
		}
	}
}

// wantKey checks that a key has verified a token, and takes it out of what the token says.
func wantKey(t *testing.T, v *Verifier, key *uint32) {
	t.Helper()
	if *key <= KeyUnknown || !v.Has(*key) {
		t.Errorf("verified by key %d, which the verifier has: %t", *key, v.Has(*key))
	}
	*key = 0
}

// A key is the same in every Verifier that has it, and each has a number of its own.
func TestKeysAreKnownByOtherVerifiers(t *testing.T) {
	t.Parallel()
	verifier := func(o Options) *Verifier {
		v, err := New(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(v.Close)
		return v
	}
	other := []byte(strings.Repeat("another secret ", 4))
	both, first, second := verifier(Options{HMACSecrets: [][]byte{secret, other}}), verifier(Options{HMACSecrets: [][]byte{secret}}), verifier(Options{HMACSecrets: [][]byte{other}})
	for _, test := range []struct {
		key      []byte
		has, not *Verifier
	}{{secret, first, second}, {other, second, first}} {
		c, err := both.Connection(t.Context(), token(t, hmacSigner(test.key), `{"sub":"42"}`), noon)
		if err != nil {
			t.Fatal(err)
		}
		if !both.Has(c.Key) || !test.has.Has(c.Key) || test.not.Has(c.Key) || (*Verifier)(nil).Has(c.Key) {
			t.Errorf("key %d: both %t, its own %t, the other one %t, none %t", c.Key, both.Has(c.Key), test.has.Has(c.Key), test.not.Has(c.Key), (*Verifier)(nil).Has(c.Key))
		}
	}
	for _, v := range []*Verifier{nil, both} {
		if !v.Has(0) || v.Has(KeyUnknown) {
			t.Errorf("no token needs a key: %t, or a key that is not known is there: %t", !v.Has(0), v.Has(KeyUnknown))
		}
	}
}

func TestWhatSubscriptionTokensSay(t *testing.T) {
	v := full(t)
	claims := `{"sub":"42","channel":"chat:1","client":"c-1","exp":1800000060,"info":{"n":1}}`
	made := token(t, hmacSigner(secret), claims)
	got, err := v.Subscription(t.Context(), made, noon)
	wantKey(t, v, &got.Key)
	want := Subscription{User: "42", Channel: "chat:1", Client: "c-1", ExpireAt: 1_800_000_060, Info: []byte(`{"n":1}`)}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	raw, err := v.Claims(t.Context(), made, noon)
	if err != nil || string(raw) != claims {
		t.Errorf("claims %s, %v", raw, err)
	}
	if _, err := v.Claims(t.Context(), made, noon.Add(time.Minute)); err != ErrExpired {
		t.Errorf("later: %v", err)
	}
}

func TestExpiryIsExactAndNotBeforeHasLeeway(t *testing.T) {
	for _, tt := range []struct {
		leeway time.Duration
		claims string
		at     int64 // the first second at which the answer is not nil, or the last but one
		want   error
	}{
		{0, `{"exp":1800000100}`, 1_800_000_100, ErrExpired},
		{time.Minute, `{"exp":1800000100}`, 1_800_000_100, ErrExpired},
		{0, `{"exp":1800000200,"expire_at":1800000100}`, 1_800_000_100, ErrExpired},
		{0, `{"nbf":1800000100}`, 1_800_000_069, errEarly},
		{-1, `{"nbf":1800000100}`, 1_800_000_099, errEarly},
		{time.Minute, `{"nbf":1800000100}`, 1_800_000_039, errEarly},
	} {
		v := verifier(t, Options{HMACSecrets: [][]byte{secret}, Leeway: tt.leeway})
		made := token(t, hmacSigner(secret), tt.claims)
		good := tt.at - 1
		if tt.want == errEarly {
			good = tt.at + 1
		}
		if _, err := v.Connection(t.Context(), made, time.Unix(good, 0)); err != nil {
			t.Errorf("%s with leeway %v at %d: %v", tt.claims, tt.leeway, good, err)
		}
		if _, err := v.Connection(t.Context(), made, time.Unix(tt.at, 0)); err != tt.want {
			t.Errorf("%s with leeway %v at %d: %v, want %v", tt.claims, tt.leeway, tt.at, err, tt.want)
		}
	}
}

func TestSeveralKeysOfAnAlgorithmMayBeConfigured(t *testing.T) {
	k := keys()
	v := verifier(t, Options{PublicKeys: [][]byte{slices.Concat(k.rsa.public, k.ed.public), k.otherRSA.public}})
	for _, p := range []pair{k.rsa, k.otherRSA, k.ed} {
		if _, err := v.Connection(t.Context(), token(t, p.signer, `{"sub":"u"}`), noon); err != nil {
			t.Error(err)
		}
	}
	for _, p := range []pair{k.otherEd, k.ec} {
		if _, err := v.Connection(t.Context(), token(t, p.signer, `{"sub":"u"}`), noon); !errors.As(err, new(*InvalidError)) {
			t.Error(err)
		}
	}
}

func TestOptionsThatCannotBeRight(t *testing.T) {
	k := keys()
	small := newRSA(t, 1024)
	p224 := newPairPEM(t, must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader)).Public())
	var nine [][]byte
	for range 9 {
		nine = append(nine, k.ed.public)
	}
	for _, tt := range []struct {
		o    Options
		want string
	}{
		{Options{}, "no key is configured: specify a secret"},
		{Options{HMACSecrets: [][]byte{secret[:31]}}, "the secret is 31 bytes long"},
		{Options{HMACSecrets: [][]byte{secret, nil}}, "the secret is 0 bytes long"},
		{Options{HMACSecrets: slices.Repeat([][]byte{secret}, 9)}, "too many secrets (9)"},
		{Options{HMACSecrets: [][]byte{k.rsa.public}}, "the secret is a PEM key or certificate"},
		{Options{PublicKeys: [][]byte{{}}}, "no PEM public key"},
		{Options{PublicKeys: [][]byte{k.rsa.private}}, "it contains a private key"},
		{Options{PublicKeys: [][]byte{small}}, "RSA key has 1024 bits"},
		{Options{PublicKeys: [][]byte{p224}}, "EC key is on the curve P-224"},
		{Options{PublicKeys: [][]byte{[]byte("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")}}, "public key: "},
		{Options{PublicKeys: nine}, "too many public keys (9)"},
		{Options{HMACSecrets: [][]byte{secret}, Leeway: time.Hour}, "leeway 1h0m0s"},
		{Options{JWKSURL: "http://example.com/jwks"}, "uses http"},
		{Options{JWKSURL: "http://127.0.0.1.example.com/jwks"}, "uses http"},
		{Options{JWKSURL: "file:///etc/passwd"}, "the key set URL must be"},
		{Options{JWKSURL: "https://u:p@example.com/"}, "contains a password"},
		{Options{HMACSecrets: [][]byte{secret[:5]}, JWKSURL: "nonsense"}, "the secret is 5 bytes long"},
		{Options{HMACSecrets: [][]byte{secret[:5]}, JWKSURL: "nonsense"}, "the key set URL must be"},
	} {
		v, err := New(t.Context(), tt.o)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %q", err, tt.want)
		}
		if v != nil {
			t.Errorf("%q: a verifier in spite of it", tt.want)
		}
	}
	for _, good := range []string{"https://id.example.com/keys", "http://localhost:1/keys", "http://127.0.0.9/keys", "http://[::1]:80/"} {
		if err := CheckJWKSURL(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
}

func TestSignersRefuseBadKeys(t *testing.T) {
	encrypted := []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
	for want, text := range map[string][]byte{"no PEM private key": keys().rsa.public, "is encrypted": encrypted} {
		if _, err := NewSigner(text, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := NewHMACSigner(secret[:31]); err == nil {
		t.Error("a short secret signs")
	}
	for alg, s := range map[string]*Signer{"RS256": hmacSigner(secret), "HS256": keys().rsa.signer, "ES384": keys().ec.signer, "ES256": keys().ec384.signer, "none": hmacSigner(secret), "": keys().ed.signer} {
		if _, err := s.Using(alg); err == nil || !strings.Contains(err.Error(), s.alg.String()) {
			t.Errorf("%v as %q: %v", s.alg, alg, err)
		}
	}
}

// Old formats of private keys are still what openssl writes for some commands.
func TestSignersTakeOldFormats(t *testing.T) {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	parameters := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8}})
	ec := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: must(x509.MarshalECPrivateKey(key))})
	if s, err := NewSigner(append(parameters, ec...), ""); err != nil || s.alg.String() != "ES256" {
		t.Error(err)
	}
	rsaKey := must(x509.ParsePKCS8PrivateKey(must(decodePEM(keys().rsa.private)))).(*rsa.PrivateKey)
	old := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey)})
	if s, err := NewSigner(old, ""); err != nil || s.alg.String() != "RS256" {
		t.Error(err)
	}
}

// What a token grants lives as long as a connection; the token must not with it.
func TestWhatIsKeptIsCopied(t *testing.T) {
	v := verifier(t, Options{HMACSecrets: [][]byte{secret}})
	raw := []byte(`{"sub":"user","info":{"a":1},"channels":["one"],"subs":{"two":{"info":1}}}`)
	c, bad := v.parseClaims(raw)
	if bad != nil {
		t.Fatal(bad)
	}
	for i := range raw {
		raw[i] = 'X'
	}
	if c.user != "user" || !bytes.Equal(c.info, []byte(`{"a":1}`)) || c.channels[0] != "one" || string(c.subs["two"].Info) != "1" {
		t.Errorf("%+v", c)
	}
}

func newRSA(t *testing.T, bits int) []byte {
	t.Setenv("GODEBUG", "rsa1024min=0")
	return newPairPEM(t, must(rsa.GenerateKey(rand.Reader, bits)).Public())
}

func newPairPEM(t *testing.T, public any) []byte {
	t.Helper()
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(public))})
}

// A secret is replaced without a token being refused: both are good for a while, the new one for
// what is signed now, and none of them matters to a token of another.
func TestEachOfSeveralSecretsIsGood(t *testing.T) {
	var secrets [][]byte
	for i := range secretsMax {
		secrets = append(secrets, bytes.Repeat([]byte{byte('a' + i)}, 32))
	}
	v := verifier(t, Options{HMACSecrets: secrets})
	for _, one := range secrets {
		for _, header := range []string{`{"alg":"HS256"}`, `{"alg":"HS256","kid":"old"}`} {
			if got, err := v.Connection(t.Context(), tokenOf(t, hmacSigner(one), header, `{"sub":"42"}`), noon); err != nil || got.User != "42" {
				t.Errorf("%.1s: %+v, %v", one, got, err)
			}
		}
	}
	if _, err := v.Connection(t.Context(), token(t, hmacSigner(secret), `{"sub":"42"}`), noon); err != errSignature {
		t.Errorf("another secret: %v", err)
	}
}

// A backend that signs tokens learns which claim is wrong, and how it should be.
func TestRefusalsNameTheClaim(t *testing.T) {
	v := full(t)
	for claims, want := range map[string]string{
		`{"sub":true}`:                    `claim "sub" must be a string or an integer`,
		`{"sub":1.5}`:                     `claim "sub" must be a string or an integer`,
		`{"sub":"a","sub":"b"}`:           `claim "sub" is repeated`,
		`{"\u006by":1,"ky":2}`:            `a field name is repeated`, // of the token's own making
		`{"client":1}`:                    `claim "client" must be a string`,
		`{"jti":1}`:                       `claim "jti" must be a string`,
		`{"iss":1}`:                       `claim "iss" must be a string`,
		`{"aud":[1]}`:                     `claim "aud" must be a string or an array of strings`,
		`{"exp":"soon"}`:                  `claim "exp" must be a time in Unix seconds`,
		`{"nbf":null}`:                    `claim "nbf" must be a time in Unix seconds`,
		`{"iat":1800000100000}`:           `claim "iat" is after the year 9999: use seconds, not milliseconds`,
		`{"b64info":"x"}`:                 `claim "b64info" must be base64-encoded JSON`,
		`{"channels":"a"}`:                `claim "channels" must be an array of channel names`,
		`{"channels":[""]}`:               `claim "channels" has a channel name that is empty or longer than 255 bytes`,
		`{"subs":[]}`:                     `claim "subs" must be an object with one object per channel`,
		`{"subs":{"a":{"b64info":true}}}`: `claim "subs" has channel options with a repeated name, or with a b64info that is not base64-encoded JSON`,
		`{"channel":7}`:                   `claim "channel" must be a string`,
	} {
		_, err := v.Connection(t.Context(), token(t, hmacSigner(secret), claims), noon)
		var invalid *InvalidError
		if !errors.As(err, &invalid) || invalid.Reason() != want || err.Error() != "invalid token: "+want {
			t.Errorf("%s: %v", claims, err)
		}
	}
}
