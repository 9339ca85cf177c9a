package auth

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// forged is a bad token and how it has to be refused.
type forged struct {
	name, token string
	want        error
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// forgeries are against a Verifier with keys of all algorithms, an audience and an issuer.
// trap is the URL of a server that must not be asked.
func forgeries(t testing.TB, trap string) (list []forged) {
	k := keys()
	hs, rs, es, ed := hmacSigner(secret), k.rsa.signer, k.ec.signer, k.ed.signer
	const rest = `"aud":"push","iss":"shop","exp":1800000100`
	const claims = `{"sub":"42",` + rest + `}`
	add := func(name, token string, want error) { list = append(list, forged{name, token, want}) }
	cut := func(token string) (head, signature string) {
		i := strings.LastIndexByte(token, '.')
		return token[:i+1], token[i+1:]
	}
	// The claims of a good token with something more.
	more := func(name, member string, want error) {
		add("claims: "+name, token(t, hs, `{"sub":"42",`+rest+`,`+member+`}`), want)
	}

	// Not signed.
	for _, alg := range []string{"none", "None", "NONE", "nOnE"} {
		head := b64(`{"alg":"`+alg+`","typ":"JWT"}`) + "." + b64(claims) + "."
		add("alg "+alg, head, errNone)
		add("alg "+alg+", with a signature", head+b64("x"), errNone)
	}
	// Of another algorithm, or of none.
	for _, alg := range []string{"", "HS1", "HS224", "hs256", "HS256 ", "RS1", "PS256", "PS384", "PS512", "ES224", "ES256K", "ES521", "Ed25519", "HS256\x00"} {
		add(fmt.Sprintf("alg %q", alg), tokenOf(t, hs, `{"alg":`+quote(alg)+`}`, claims), errAlgorithm)
	}
	add("alg is missing", tokenOf(t, hs, `{"typ":"JWT"}`, claims), errAlgorithm)
	add("alg in capitals only", tokenOf(t, hs, `{"ALG":"HS256"}`, claims), errAlgorithm)
	for _, alg := range []string{"null", "1", `["HS256"]`, `{"alg":"HS256"}`, "true"} {
		add("alg is "+alg, tokenOf(t, hs, `{"alg":`+alg+`}`, claims), errHeadType)
	}
	add("alg twice, none last", tokenOf(t, hs, `{"alg":"HS256","alg":"none"}`, claims), errDuplicate)
	add("alg twice, none first", tokenOf(t, hs, `{"alg":"none","alg":"HS256"}`, claims), errNone)
	add("alg twice, once escaped", tokenOf(t, hs, `{"alg":"HS256","\u0061lg":"RS256"}`, claims), errDuplicate)

	// Confusion of keys.
	for name, key := range map[string][]byte{
		"PEM": k.rsa.public, "PEM without the last newline": []byte(strings.TrimSpace(string(k.rsa.public))), "DER": k.rsa.der,
		"PEM of the P-256 key": k.ec.public, "PEM of the Ed25519 key": k.ed.public, "32 bytes of Ed25519": k.ed.der[len(k.ed.der)-32:],
		"nothing": {}, "zeros": make([]byte, 32), "another secret": []byte(strings.Repeat("s", 32)), "the secret and a newline": append(slices.Clone(secret), '\n'),
	} {
		for _, alg := range []string{"HS256", "HS384", "HS512"} {
			add(alg+" keyed with "+name, token(t, using(t, hmacSigner(key), alg), claims), errSignature)
		}
	}
	add("RS256 by another key", token(t, k.otherRSA.signer, claims), errSignature)
	add("ES256 by another key", token(t, k.otherEC.signer, claims), errSignature)
	add("RS512 by another key", token(t, using(t, k.otherRSA.signer, "RS512"), claims), errSignature)
	add("ES384 by another key", token(t, k.otherEC384.signer, claims), errSignature)
	add("EdDSA by another key", token(t, k.otherEd.signer, claims), errSignature)
	for _, s := range []*Signer{hs, rs, es, k.ec384.signer, k.ec521.signer, ed} {
		for a := hs256; a < algorithms; a++ {
			if a != s.alg {
				add(fmt.Sprintf("signed with %v, says %v", s.alg, a), tokenOf(t, s, `{"alg":"`+a.String()+`"}`, claims), errSignature)
			}
		}
	}

	// Signatures.
	for _, s := range []*Signer{hs, using(t, hs, "HS512"), rs, es, k.ec384.signer, k.ec521.signer, ed} {
		good := token(t, s, claims)
		head, signature := cut(good)
		n := len(must(base64url.DecodeString(signature)))
		raw := must(base64url.DecodeString(signature))
		name := s.alg.String() + ": "
		add(name+"no signature", head, errSignature)
		add(name+"zeros", head+b64(strings.Repeat("\x00", n)), errSignature)
		add(name+"ones", head+b64(strings.Repeat("\xff", n)), errSignature)
		add(name+"one byte less", head+b64(string(raw[:n-1])), errSignature)
		add(name+"one byte more", head+b64(string(raw)+"\x00"), errSignature)
		add(name+"half", head+b64(string(raw[:n/2])), errSignature)
		raw[n-1] ^= 1
		add(name+"one bit changed", head+b64(string(raw)), errSignature)
		add(name+"other claims", b64(`{"alg":"`+s.alg.String()+`","typ":"JWT"}`)+"."+b64(`{"sub":"43",`+rest+`}`)+"."+signature, errSignature)
		add(name+"other header", b64(`{"typ":"JWT","alg":"`+s.alg.String()+`"}`)+"."+b64(claims)+"."+signature, errSignature)
		add(name+"hexadecimal", head+fmt.Sprintf("%x", raw), errSignature)
	}
	head, signature := cut(token(t, es, claims))
	raw := must(base64url.DecodeString(signature))
	add("ES256: R is zero", head+b64(strings.Repeat("\x00", 32)+string(raw[32:])), errSignature)
	add("ES256: S is zero", head+b64(string(raw[:32])+strings.Repeat("\x00", 32)), errSignature)
	order := "\xff\xff\xff\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xbc\xe6\xfa\xad\xa7\x17\x9e\x84\xf3\xb9\xca\xc2\xfc\x63\x25\x51"
	add("ES256: R and S are the order", head+b64(order+order), errSignature)
	add("ES256: R and S swapped", head+b64(string(raw[32:])+string(raw[:32])), errSignature)
	add("ES256: in DER", head+b64("\x30\x44\x02\x20"+string(raw[:32])+"\x02\x20"+string(raw[32:])), errSignature)

	// What else a header may hold. The signatures are the attacker's.
	attacker := hmacSigner([]byte(strings.Repeat("a", 32)))
	for _, kid := range []string{
		"../../../../dev/null", "/dev/null", "/proc/sys/kernel/randomize_va_space", "x' UNION SELECT 'aaaa", "|id", "\x00", trap + "/kid", "*", "", strings.Repeat("k", 3000),
	} {
		shown := kid
		if len(kid) > 40 {
			shown = "long"
		}
		add("HS256 with kid "+quote(shown), tokenOf(t, attacker, `{"alg":"HS256","kid":`+quote(kid)+`}`, claims), errSignature)
	}
	add("HS256 of nothing with kid /dev/null", tokenOf(t, hmacSigner(nil), `{"alg":"HS256","kid":"/dev/null"}`, claims), errSignature)
	for _, kid := range []string{"1", "null", `["a"]`, "{}"} {
		add("kid is "+kid, tokenOf(t, hs, `{"alg":"HS256","kid":`+kid+`}`, claims), errHeadType)
	}
	add("jwk of the attacker", tokenOf(t, k.otherEd.signer, `{"alg":"EdDSA","jwk":{"kty":"OKP","crv":"Ed25519","x":"`+b64(string(k.otherEd.der[len(k.otherEd.der)-32:]))+`"}}`, claims), errSignature)
	add("jwk with a shared secret", tokenOf(t, attacker, `{"alg":"HS256","jwk":{"kty":"oct","k":"`+b64(strings.Repeat("a", 32))+`"}}`, claims), errSignature)
	add("jku of the attacker", tokenOf(t, k.otherRSA.signer, `{"alg":"RS256","kid":"a","jku":"`+trap+`/jku"}`, claims), errSignature)
	add("x5u of the attacker", tokenOf(t, k.otherRSA.signer, `{"alg":"RS256","x5u":"`+trap+`/x5u"}`, claims), errSignature)
	add("x5c of the attacker", tokenOf(t, k.otherRSA.signer, `{"alg":"RS256","x5c":["`+base64.StdEncoding.EncodeToString(k.otherRSA.der)+`"]}`, claims), errSignature)
	add("crit", tokenOf(t, hs, `{"alg":"HS256","crit":["exp"]}`, claims), errCritical)
	add("crit is empty", tokenOf(t, hs, `{"alg":"HS256","crit":[]}`, claims), errCritical)
	add("crit is escaped", tokenOf(t, hs, `{"alg":"HS256","\u0063rit":["b64"],"b64":false}`, claims), errCritical)
	add("b64 is false", tokenOf(t, hs, `{"b64":false,"alg":"HS256"}`, claims), errCritical)
	add("a header of many members", tokenOf(t, hs, `{"alg":"HS256"`+many(64)+`}`, claims), errMany)

	// The form.
	good := token(t, hs, claims)
	dot := strings.IndexByte(good, '.')
	head, signature = cut(good)
	add("nothing", "", errEmpty)
	add("one dot", ".", errParts)
	add("two dots", "..", errHeader)
	add("no dots", strings.ReplaceAll(good, ".", ""), errParts)
	add("two parts", good[:strings.LastIndexByte(good, '.')], errParts)
	add("four parts", good+".", errParts)
	add("five parts, as encrypted ones have", good+"."+signature+"."+signature, errParts)
	add("1 MiB of dots", strings.Repeat(".", 1<<20), errLong)
	add("8 KiB of dots", strings.Repeat(".", tokenBytesMax), errParts)
	add("1 MiB of a", strings.Repeat("a", 1<<20), errLong)
	add("one byte too long", token(t, hs, `{"x":"`+strings.Repeat("x", tokenBytesMax)+`"}`)[:tokenBytesMax+1], errLong)
	add("8 KiB of brackets in the header", b64(strings.Repeat("[", 6000))+".."+signature, errHeader)
	for _, c := range []string{" ", "\n", "\r\n", "\t", "=", "\x00", "+", "/", "%", "\u00e9", "\xff"} {
		add(fmt.Sprintf("%q before it", c), c+good, errAlphabet)
		add(fmt.Sprintf("%q behind it", c), good+c, errAlphabet)
		add(fmt.Sprintf("%q within the header", c), good[:3]+c+good[3:], errAlphabet)
		add(fmt.Sprintf("%q within the signature", c), head+signature[:4]+c+signature[4:], errAlphabet)
	}
	add("Bearer before it", "Bearer "+good, errAlphabet)
	add("padding in each part", good[:dot]+"="+good[dot:]+"=", errAlphabet)
	add("bits that the decoder would drop", head+signature[:42]+next(signature[42:]), errBase64)
	add("a length that base64 cannot have", "AAAAA"+good[dot:], errBase64)
	add("trailing data in the header", tokenOf(t, hs, `{"alg":"HS256"}{}`, claims), errHeader)
	add("trailing data in the claims", token(t, hs, claims+"x"), errClaims)
	add("a NUL behind the claims", token(t, hs, claims+"\x00"), errClaims)
	add("header is an array", tokenOf(t, hs, `["HS256"]`, claims), errHeader)
	add("header is null", tokenOf(t, hs, `null`, claims), errHeader)
	add("header is empty", tokenOf(t, hs, ``, claims), errHeader)
	add("header is not UTF-8", tokenOf(t, hs, "{\"alg\":\"HS256\",\"a\":\"\xff\"}", claims), errHeader)
	add("header with a byte order mark", tokenOf(t, hs, "\ufeff{\"alg\":\"HS256\"}", claims), errHeader)

	// The claims, rightly signed: a backend's mistakes, or somebody else's tokens.
	for _, c := range []string{"", "null", "[]", `"x"`, "1", "{", `{"sub":"a",}`, `{'sub':'a'}`, "{\"sub\":\"\xff\"}", "{\"sub\":\"a\nb\"}", "{\"sub\":\"a\"", `{"sub":"a"}]`} {
		add("claims are "+c, token(t, hs, c), errClaims)
	}
	add("claims: expired", token(t, hs, `{"sub":"42","aud":"push","iss":"shop","exp":1799999999}`), ErrExpired)
	add("claims: expires now", token(t, rs, `{"sub":"42","aud":"push","iss":"shop","exp":1800000000}`), ErrExpired)
	add("claims: expired and for others", token(t, hs, `{"sub":"42","aud":"pull","iss":"shop","exp":1799999999}`), errAudience)
	add("claims: expired in 1970", token(t, hs, `{"aud":"push","iss":"shop","exp":1}`), ErrExpired)
	more("expire_at is over", `"expire_at":1800000000`, ErrExpired)
	more("nbf in the future", `"nbf":1800000031`, errEarly)
	for _, name := range []string{"exp", "nbf", "iat", "expire_at"} {
		for _, value := range []string{`"1800000100"`, "null", "true", "-1", "[1800000100]", "{}", "-1e400", "0.5"} {
			claims := `{"aud":"push","iss":"shop","` + name + `":` + value + `}`
			add("claims: "+name+" is "+value, token(t, hs, claims), errTime)
		}
		for _, value := range []string{"1800000100000", "1e400", "9223372036854775808", "253402300800"} {
			claims := `{"aud":"push","iss":"shop","` + name + `":` + value + `}`
			add("claims: "+name+" is "+value, token(t, hs, claims), errMilliseconds)
		}
	}
	add("claims: exp is 0", token(t, hs, `{"aud":"push","iss":"shop","exp":0}`), errTime)
	for _, aud := range []string{`"pull"`, `"PUSH"`, `"push "`, `""`, `[]`, `["pull","pushy"]`} {
		add("claims: aud is "+aud, token(t, hs, `{"iss":"shop","aud":`+aud+`}`), errAudience)
	}
	add("claims: aud is missing", token(t, hs, `{"iss":"shop"}`), errAudience)
	for _, aud := range []string{"1", "null", `{"push":1}`, `["push",1]`, `[["push"]]`, `[null,"push"]`} {
		add("claims: aud is "+aud, token(t, hs, `{"iss":"shop","aud":`+aud+`}`), errAudiences)
	}
	for _, iss := range []string{`"shop2"`, `"Shop"`, `""`, `"https://shop"`} {
		add("claims: iss is "+iss, token(t, hs, `{"aud":"push","iss":`+iss+`}`), errIssuer)
	}
	add("claims: iss is missing", token(t, hs, `{"aud":"push"}`), errIssuer)
	add("claims: iss is a list", token(t, hs, `{"aud":"push","iss":["shop"]}`), errString)
	for _, sub := range []string{"42.5", "42.0", "42e1", "-0", "null", "true", `["42"]`, "{}"} {
		add("claims: sub is "+sub, token(t, hs, `{`+rest+`,"sub":`+sub+`}`), errUser)
	}
	add("claims: sub is long", token(t, hs, `{`+rest+`,"sub":"`+strings.Repeat("u", 256)+`"}`), errUserLong)
	add("claims: sub is a long integer", token(t, hs, `{`+rest+`,"sub":`+strings.Repeat("4", 256)+`}`), errUserLong)
	more("jti is a number", `"jti":1`, errString)
	more("client is a number", `"client":1`, errString)
	more("sub twice", `"sub":"43"`, errTwice)
	more("sub twice, once escaped", `"s\u0075b":"43"`, errTwice)
	more("unknown claims twice", `"x":1,"x":1`, errDuplicate)
	more("too many", strings.TrimPrefix(many(64), ","), errMany)
	more("b64info is not base64", `"b64info":"!"`, errInfo)
	more("b64info is not JSON", `"b64info":"/w=="`, errInfo)
	more("b64info is base64url", `"b64info":"Ij8_Pz8i"`, errInfo)
	more("b64info is an object", `"b64info":{}`, errInfo)
	for _, c := range []string{`"a"`, `{}`, `null`, `[1]`, `[["a"]]`, `[null]`} {
		more("channels is "+c, `"channels":`+c, errChannels)
	}
	more("channels has an empty name", `"channels":["a",""]`, errName)
	more("channels has a long name", `"channels":["`+strings.Repeat("c", 256)+`"]`, errName)
	more("too many channels", `"channels":`+channelList(1025), errManyChannels)
	more("too many channels and subs", `"subs":{"s":{}},"channels":`+channelList(1024), errManyChannels)
	more("too many subs", `"channels":`+channelList(1024)+`,"subs":{"s":{}}`, errManyChannels)
	for _, c := range []string{`"a"`, `["a"]`, `null`, `{"a":1}`, `{"a":null}`, `{"a":[]}`} {
		more("subs is "+c, `"subs":`+c, errSubs)
	}
	more("subs has an empty name", `"subs":{"":{}}`, errName)
	more("subs has a long name", `"subs":{"`+strings.Repeat("c", 256)+`":{}}`, errName)
	more("subs has a name twice", `"subs":{"a":{},"\u0061":{}}`, errSubsTwice)
	more("info twice in subs", `"subs":{"a":{"info":1,"info":2}}`, errSubOptions)
	more("bad info in subs", `"subs":{"a":{"b64info":"x"}}`, errSubOptions)

	// Cross-use.
	more("of a subscription", `"channel":"news"`, errIsSub)
	more("of a subscription, escaped", `"c\u0068annel":"news"`, errIsSub)
	add("claims: an expired subscription", token(t, hs, `{"channel":"news","exp":1}`), errIsSub)
	more("channel is empty", `"channel":""`, errName)
	more("channel is null", `"channel":null`, errString)
	more("channel is a list", `"channel":["news"]`, errString)
	return list
}

// next changes a character of base64 by its last bit.
func next(c string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.Index(alphabet, c)^1])
}

func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"m%d":%d`, i, i)
	}
	return b.String()
}

func channelList(n int) string {
	var list []string
	for i := range n {
		list = append(list, strconv.Quote(strconv.FormatInt(int64(i), 36)))
	}
	return "[" + strings.Join(list, ",") + "]"
}

func TestForgedTokensAreRefused(t *testing.T) {
	var asked atomic.Int64
	trap := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer trap.Close()
	k := keys()
	v := verifier(t, Options{
		HMACSecrets: [][]byte{secret}, PublicKeys: [][]byte{k.rsa.public, k.ec.public, k.ec384.public, k.ec521.public, k.ed.public}, Audience: "push", Issuer: "shop",
	})
	seen := map[string]bool{}
	list := forgeries(t, trap.URL)
	for _, f := range list {
		if seen[f.name] {
			t.Errorf("%s: the name is there twice", f.name)
		}
		seen[f.name] = true
		got, err := v.Connection(t.Context(), f.token, noon)
		if !errors.Is(err, f.want) {
			t.Errorf("%s: %v, want %v", f.name, err, f.want)
		}
		if got.User != "" || got.ExpireAt != 0 || got.Info != nil || got.Channels != nil || got.Subs != nil {
			t.Errorf("%s: it grants %+v", f.name, got)
		}
		if err != nil && len(f.token) > 20 && strings.Contains(err.Error(), f.token[:20]) {
			t.Errorf("%s: the error shows the token: %v", f.name, err)
		}
		if _, err := v.Subscription(t.Context(), f.token, noon); err == nil && f.want != errIsSub {
			t.Errorf("%s: passes for a channel", f.name)
		}
		if raw, err := v.Claims(t.Context(), f.token, noon); err == nil && f.want != errIsSub {
			t.Errorf("%s: its claims are shown: %s", f.name, raw)
		}
	}
	if len(list) < 60 {
		t.Errorf("%d forged tokens", len(list))
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("%d requests went where a token pointed", n)
	}
	t.Logf("%d forged tokens", len(list))
}

// What the table is refused for must be the one thing that is wrong with it.
func TestTheTokensBehindTheForgedOnesPass(t *testing.T) {
	k := keys()
	v := verifier(t, Options{
		HMACSecrets: [][]byte{secret}, PublicKeys: [][]byte{k.rsa.public, k.ec.public, k.ec384.public, k.ec521.public, k.ed.public}, Audience: "push", Issuer: "shop",
	})
	for _, s := range []*Signer{hmacSigner(secret), k.rsa.signer, k.ec.signer, k.ed.signer} {
		for _, header := range []string{`{"alg":"` + s.alg.String() + `"}`, `{"kid":"/dev/null","x":[],"jku":"http://[::1]:1/","alg":"` + s.alg.String() + `"}`} {
			if _, err := v.Connection(t.Context(), tokenOf(t, s, header, `{"sub":"42","aud":"push","iss":"shop","exp":1800000100}`), noon); err != nil {
				t.Errorf("%s: %v", header, err)
			}
		}
	}
}

func TestConnectionTokensAreNoSubscriptionTokens(t *testing.T) {
	v := full(t)
	for _, tt := range []struct {
		claims string
		want   error
	}{
		{`{"sub":"42"}`, errIsNotSub},
		{`{"sub":"42","exp":1}`, errIsNotSub},
		{`{"sub":"42","channels":["news"]}`, errIsNotSub},
		{`{"sub":"42","subs":{"news":{}}}`, errIsNotSub},
		{`{"sub":"42","Channel":"news"}`, errIsNotSub},
		{`{"sub":"42","channel":"news","channels":["other"]}`, errBothKinds},
		{`{"sub":"42","channel":"news","subs":{}}`, errBothKinds},
		{`{"sub":"42","channel":"news","client":7}`, errString},
		{`{"sub":"42","channel":"news","exp":1800000000}`, ErrExpired},
		{`{"sub":"42","channel":"` + strings.Repeat("c", 256) + `"}`, errName},
	} {
		if _, err := v.Subscription(t.Context(), token(t, hmacSigner(secret), tt.claims), noon); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.claims, err, tt.want)
		}
	}
}

func TestAlgorithmsWithoutAKeyAreRefusedCheaply(t *testing.T) {
	k := keys()
	onlySecret := verifier(t, Options{HMACSecrets: [][]byte{secret}})
	onlyEC := verifier(t, Options{PublicKeys: [][]byte{k.ec.public}})
	for _, tt := range []struct {
		v     *Verifier
		s     *Signer
		want  error
		cheap bool
	}{
		{onlySecret, k.rsa.signer, errNoKey, true},
		{onlySecret, k.ec.signer, errNoKey, true},
		{onlyEC, hmacSigner(secret), errNoKey, true},
		{onlyEC, hmacSigner(k.ec.public), errNoKey, true},
		{onlyEC, k.ed.signer, errNoKey, true},
		{onlyEC, k.ec.signer, nil, false},
	} {
		made := token(t, tt.s, `{"sub":"u"}`)
		if _, err := tt.v.Connection(t.Context(), made, noon); err != tt.want {
			t.Errorf("%s: %v, want %v", tt.s.alg.String(), err, tt.want)
		}
		if got := tt.v.Cheap(made); got != tt.cheap {
			t.Errorf("%s: cheap %v", tt.s.alg.String(), got)
		}
	}
}

// A forged token that an event loop verifies itself costs it little, whatever is in it. BenchmarkCheapForgeries measures the time.
func TestCheapTokensAllocateLittle(t *testing.T) {
	v := full(t)
	for _, f := range forgeries(t, "http://127.0.0.1:1") {
		if !v.Cheap(f.token) {
			continue
		}
		most := uint64(2048 + 32*len(f.token)) // a level of nesting takes 16 to 32 bytes, and one byte of the token
		var before, after runtime.MemStats
		taken := uint64(math.MaxUint64)
		for range 5 { // something else in the process may have allocated meanwhile
			runtime.ReadMemStats(&before)
			v.Connection(t.Context(), f.token, noon) // refused, as another test sees
			runtime.ReadMemStats(&after)
			taken = min(taken, after.TotalAlloc-before.TotalAlloc)
		}
		if taken > most {
			t.Errorf("%s: %d bytes for a token of %d, want %d at most", f.name, taken, len(f.token), most)
		}
	}
}

func TestRefusingALongTokenDoesNotAllocate(t *testing.T) {
	v := full(t)
	dots := strings.Repeat(".", 1<<20)
	junk := make([]byte, 1<<20)
	for i := range junk {
		junk[i] = byte(rand.N(256))
	}
	for _, s := range []string{dots, string(junk), dots[:tokenBytesMax]} {
		if n := testing.AllocsPerRun(100, func() {
			v.Cheap(s)
			v.Connection(t.Context(), s, noon)
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
}
