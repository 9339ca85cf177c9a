package token

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/clitest"
	"sluice/gateway/access/auth"
)

const tokenSecret = "0123456789abcdef0123456789abcdef"

// runToken runs `sluice token` with an input.
func runToken(stdin string, args ...string) (code int, stdout, stderr string) {
	root := &cobra.Command{Use: "sluice"}
	root.AddCommand(NewCommand())
	return clitest.Run(root, stdin, append([]string{"token"}, args...)...)
}

// makeToken makes a token, and nothing else may be printed.
func makeToken(t *testing.T, args ...string) string {
	t.Helper()
	code, stdout, stderr := runToken("", append([]string{"make"}, args...)...)
	token, ok := strings.CutSuffix(stdout, "\n")
	if code != 0 || stderr != "" || !ok || strings.ContainsAny(token, " \n") || token == "" {
		t.Fatalf("make %q: exit code %d, stdout %q, stderr %q", args, code, stdout, stderr)
	}
	return token
}

func TestTokensOfEveryKeyAreMadeAndVerified(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384Key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret := clitest.WriteFile(t, "secret", tokenSecret+"\n")
	type pair struct{ alg, make, verify string }
	var pairs []pair
	for _, alg := range []string{"HS256", "HS384", "HS512"} {
		pairs = append(pairs, pair{alg, "--token-hmac-secret-file=" + secret, "--token-hmac-secret-file=" + secret})
	}
	for alg, key := range map[string]crypto.Signer{"RS256": rsaKey, "RS512": rsaKey, "ES256": ecKey, "ES384": p384Key, "EdDSA": edKey} {
		private, public := clitest.KeyFiles(t, key)
		pairs = append(pairs, pair{alg, "--private-key=" + private, "--token-public-key-file=" + public})
	}
	for _, p := range pairs {
		token := makeToken(t, p.make, "--alg", p.alg, "--user", "42", "--expires", "10m", "--info", `{"a":"<"}`, "--channels", "x,y", "--aud", "A", "--iss", "I")
		head, err := base64.RawURLEncoding.DecodeString(token[:strings.IndexByte(token, '.')])
		if err != nil || !strings.Contains(string(head), `"`+p.alg+`"`) {
			t.Errorf("%s: header %s (%v)", p.alg, head, err)
		}
		for stdin, args := range map[string][]string{"": {token}, " " + token + "\r\n": nil} {
			code, stdout, stderr := runToken(stdin, append([]string{"verify", p.verify, "--aud", "A", "--iss", "I"}, args...)...)
			if code != 0 || stderr != "" || !strings.Contains(stdout, `"<"`) {
				t.Fatalf("%s: exit code %d, stdout %q, stderr %q", p.alg, code, stdout, stderr)
			}
			var got map[string]any
			if err := json.Unmarshal([]byte(stdout), &got); err != nil {
				t.Fatal(err)
			}
			exp, iat := got["exp"].(float64), got["iat"].(float64)
			if now := float64(time.Now().Unix()); exp-iat != 600 || iat > now || iat < now-clitest.Patience.Seconds() {
				t.Errorf("%s: from %v to %v", p.alg, iat, exp)
			}
			delete(got, "exp")
			delete(got, "iat")
			want := map[string]any{"sub": "42", "info": map[string]any{"a": "<"}, "channels": []any{"x", "y"}, "aud": "A", "iss": "I"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s", p.alg, diff)
			}
		}
	}
}

// A gateway with the key accepts the tokens that the command makes, each of its kind.
func TestMadeTokensAreOfTheirKind(t *testing.T) {
	file := "--token-hmac-secret-file=" + clitest.WriteFile(t, "secret", tokenSecret+"\r\n")
	v, err := auth.New(t.Context(), auth.Options{HMACSecrets: [][]byte{[]byte(tokenSecret)}})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	c, err := v.Connection(t.Context(), makeToken(t, file, "--user", "", "--expires", "0", "--meta", "[1, 2]"), time.Now())
	if diff := cmp.Diff(auth.Connection{Meta: []byte("[1,2]"), Key: c.Key}, c); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	s, err := v.Subscription(t.Context(), makeToken(t, file, "--user=42", "--channel=news", "--client=c1", "--expires=0"), time.Now())
	if diff := cmp.Diff(auth.Subscription{User: "42", Channel: "news", Client: "c1", Key: s.Key}, s); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestSecretsAreFreshAndGoodEnough(t *testing.T) {
	var made []string
	for range 2 {
		code, stdout, stderr := runToken("", "secret")
		if code != 0 || stderr != "" || len(stdout) != 65 {
			t.Fatalf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
		}
		made = append(made, stdout)
	}
	if made[0] == made[1] {
		t.Error("the same secret twice")
	}
	makeToken(t, "--user=1", "--token-hmac-secret-file", clitest.WriteFile(t, "secret", made[0]))
}

func TestTokenVerifyRefusesWithOneReason(t *testing.T) {
	file := "--token-hmac-secret-file=" + clitest.WriteFile(t, "secret", tokenSecret)
	path := clitest.WriteFile(t, "other", strings.Repeat("x", 32))
	other := "--token-hmac-secret-file=" + path
	if err := os.WriteFile(path+"2", bytes.Repeat([]byte("y"), 32), 0o600); err != nil {
		t.Fatal(err)
	}
	signer, err := auth.NewHMACSigner([]byte(tokenSecret))
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
	for _, tt := range []struct {
		token string
		args  []string
		told  string
	}{
		{sign(auth.Claims{ExpiresAt: 1}), []string{file}, "the token has expired"},
		{sign(auth.Claims{}), []string{other}, "invalid token: the signature is wrong"},
		{sign(auth.Claims{}), []string{file, "--aud", "x"}, "invalid token: wrong audience (aud)"},
		{sign(auth.Claims{}), []string{file, "--iss", "x"}, "invalid token: wrong issuer (iss)"},
		{sign(auth.Claims{}), []string{other, other + "2"}, "invalid token: the signature is wrong"},
		{sign(auth.Claims{ExpiresAt: 1_800_000_000_000}), []string{other, file}, `invalid token: claim "exp" is after the year 9999: use seconds, not milliseconds`},
		{"nonsense", []string{file}, "invalid token: not three parts separated by dots"},
		{strings.Repeat("A", 100_000), []string{file}, "invalid token: longer than 8 KiB"},
	} {
		code, stdout, stderr := runToken(tt.token+"\n", append([]string{"verify"}, tt.args...)...)
		if code != cli.ExitFailed || stdout != "" || stderr != "sluice: "+tt.told+"\n" {
			t.Errorf("exit code %d, stdout %q, stderr %q, want %q", code, stdout, stderr, tt.told)
		}
	}
}

func TestTokenVerifyFetchesKeySets(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, _ := clitest.KeyFiles(t, key)
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		x := base64.RawURLEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
		fmt.Fprintf(w, `{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","kid":"k1","x":%q}]}`, x)
	}))
	defer server.Close()
	url := "--jwks-url=" + server.URL
	good := makeToken(t, "--user=42", "--private-key", private, "--key-id=k1")
	if code, stdout, stderr := runToken("", "verify", url, good); code != 0 || stderr != "" || !strings.Contains(stdout, `"42"`) {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	wantRefusal := func(token, told string) {
		t.Helper()
		if code, stdout, stderr := runToken("", "verify", url, token); code != cli.ExitFailed || stdout != "" || stderr != "sluice: "+told+"\n" {
			t.Errorf("exit code %d, stdout %q, stderr %q, want %q", code, stdout, stderr, told)
		}
	}
	wantRefusal(makeToken(t, "--user=42", "--private-key", private, "--key-id=k2"), "invalid token: its key (kid) is not in the key set")
	status = http.StatusNotFound
	wantRefusal(good, "the key set is unavailable at the moment: key set of "+strings.TrimPrefix(server.URL, "http://")+": the server responded with 404 Not Found")
}

func TestSecretsThatOthersCanReadAreWarnedOf(t *testing.T) {
	path := clitest.WriteFile(t, "secret", tokenSecret)
	want := "sluice: --token-hmac-secret-file " + path + ": every user of this machine can read it and make tokens with it; run 'chmod o= " + path + "'\n"
	for mode, told := range map[os.FileMode]string{0o644: want, 0o640: "", 0o600: ""} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		code, token, stderr := runToken("", "make", "--user=1", "--token-hmac-secret-file", path)
		if code != 0 || stderr != told {
			t.Errorf("make, %v: exit code %d, stderr %q", mode, code, stderr)
		}
		if code, _, stderr := runToken(token, "verify", "--token-hmac-secret-file", path); code != 0 || stderr != told {
			t.Errorf("verify, %v: exit code %d, stderr %q", mode, code, stderr)
		}
	}
}

func TestTokenSaysWhatIsMissingOrWrong(t *testing.T) {
	secret := "--token-hmac-secret-file=" + clitest.WriteFile(t, "secret", tokenSecret)
	short := clitest.WriteFile(t, "short", tokenSecret[:31]+"\n")
	long := clitest.WriteFile(t, "long", strings.Repeat("x", cli.KeyBytesMax+1))
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, public := clitest.KeyFiles(t, key)
	for _, tt := range []struct {
		args []string
		told string
	}{
		{nil, "missing command: use make, verify or secret; see 'sluice token --help'"},
		{[]string{"mint"}, "unknown command \"mint\": see 'sluice token --help'"},
		{[]string{"make", secret}, "missing --user: specify the user's ID, or --user '' for an anonymous user"},
		{[]string{"make", "--user=1"}, "a token needs exactly one key: use --token-hmac-secret-file or --private-key"},
		{[]string{"make", "--user=1", secret, "--private-key", private}, "a token needs exactly one key: use --token-hmac-secret-file or --private-key"},
		{[]string{"make", "--user=1", secret, "--key-id=k"}, "--key-id k is only for --private-key: a secret has no key ID; remove it, or use --private-key"},
		{[]string{"make", "--user=1", "--private-key", public}, "--private-key " + public + ": it contains no PEM private key; use an RSA, EC or Ed25519 key, such as one generated by 'openssl genpkey -algorithm ed25519'"},
		{[]string{"make", "--user=1", "--private-key", "/no/such"}, "--private-key /no/such: no such file or directory; use a PEM file with a private key"},
		{[]string{"make", "--user=1", "--token-hmac-secret-file", short}, "--token-hmac-secret-file " + short + ": the secret is 31 bytes long but must be at least 32; a shorter one can be guessed from a token. Generate one with 'sluice token secret' or 'openssl rand -hex 32'"},
		{[]string{"make", "--user=1", "--token-hmac-secret-file", long}, "--token-hmac-secret-file " + long + ": the file is longer than 64 KiB; use a file with the secret, such as the output of 'sluice token secret'"},
		{[]string{"make", "--user=1", secret, "--alg=RS256"}, "--alg RS256: it is no algorithm of this key; use HS256, HS384, HS512"},
		{[]string{"make", "--user=1", secret, "--info={"}, "--info {: must be JSON, such as '{\"name\":\"Ada\"}'"},
		{[]string{"make", "--user=1", secret, "--expires=1ms"}, "--expires 1ms: must be at least 1s, such as 1h, or 0 for never"},
		{[]string{"make", "--user=1", secret, "--expires=-1s"}, "--expires -1s: must be at least 1s, such as 1h, or 0 for never"},
		{[]string{"make", "--user=1", secret, "--channel=a", "--channels=b"}, "--channel a cannot be combined with --channels: one is for a subscription token, the other for a connection token; remove one"},
		{[]string{"make", "--user=1", secret, "--channel=a", "--meta=1"}, "--channel a cannot be combined with --meta, which only connection tokens can have: remove one"},
		{[]string{"make", "--user=1", secret, "--client=a"}, "--client a needs --channel: only subscription tokens can be restricted to one client; add --channel"},
		{[]string{"make", "--user=1", secret, "x"}, "unexpected argument \"x\": make accepts only flags; see 'sluice token make --help'"},
		{[]string{"verify", "x"}, "missing key: use --token-hmac-secret-file, --token-public-key-file or --jwks-url"},
		{[]string{"verify", secret}, "standard input is empty: pass the token there, or as an argument"},
		{[]string{"verify", secret, "a", "b"}, "unexpected argument \"b\": verify one token at a time"},
		{[]string{"verify", "--token-public-key-file", private, "x"}, "--token-public-key-file " + private + ": it contains a private key; verification needs only the public key, which you can extract with 'openssl pkey -pubout'"},
		{[]string{"verify", "--jwks-url=http://id.example.com/", "x"}, "--jwks-url http://id.example.com/: the key set URL uses http, so anyone on the network path could insert a key; use https"},
		{[]string{"verify", "--jwks-url=https://u:secret@id.example.com/", "x"}, "--jwks-url https://u:xxxxx@id.example.com/: the key set URL contains a password; key sets are public, so remove it"},
		{[]string{"verify", "--jwks-url=https://u:se/cr@et@id.example.com/", "x"}, "--jwks-url https://u:xxxxx@id.example.com/: the key set URL must be an absolute URL, such as https://id.example.com/.well-known/jwks.json"},
	} {
		code, stdout, stderr := runToken("", tt.args...)
		if code != cli.ExitUsage || stdout != "" || stderr != "sluice: "+tt.told+"\n" {
			t.Errorf("%q: exit code %d, stdout %q, stderr\n%swant\n%s", tt.args, code, stdout, stderr, tt.told)
		}
	}
}
