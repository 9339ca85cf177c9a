package auth

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// Any token: without the keys nothing passes, and nothing breaks.
func FuzzToken(f *testing.F) {
	for _, t := range forgeries(f, "http://127.0.0.1:1") {
		if len(t.token) <= tokenBytesMax {
			f.Add(t.token)
		}
	}
	k := keys()
	// The tokens above are signed with the same secrets, but for this audience none is meant.
	v := verifier(f, Options{HMACSecrets: [][]byte{secret}, PublicKeys: [][]byte{k.rsa.public, k.ec.public, k.ec384.public, k.ec521.public, k.ed.public}, Audience: "nobody"})
	f.Fuzz(func(t *testing.T, token string) {
		v.Cheap(token)
		_, err := v.Connection(t.Context(), token, noon)
		_, err2 := v.Subscription(t.Context(), token, noon)
		for _, err := range []error{err, err2} {
			if !errors.As(err, new(*InvalidError)) {
				t.Errorf("%v", err)
			}
		}
	})
}

// Any header and claims, rightly signed: what passes here passes with the library as well,
// and says the same there.
func FuzzSigned(f *testing.F) {
	f.Add(`{"alg":"HS256"}`, `{"sub":"42","exp":1800000100,"info":{"a":[1,"]"]},"channels":["a"],"subs":{"b":{"info":1}}}`)
	f.Add(`{"alg":"HS256","kid":"a\u0062","typ":"JWT"}`, ` {"sub":"\ud800x","channel":"c","client":"d","nbf":1.5e9}`)
	f.Add(`{"alg":"HS256","crit":[]}`, `{"aud":["a","b"],"iss":"i","jti":"j","b64info":"e30=","expire_at":0,"meta":null}`)
	v := verifier(f, Options{HMACSecrets: [][]byte{secret}, Leeway: -1})
	library := jwt.NewParser(jwt.WithValidMethods([]string{"HS256"}), jwt.WithoutClaimsValidation())
	s := hmacSigner(secret)
	f.Fuzz(func(t *testing.T, header, claims string) {
		made := tokenOf(t, s, header, claims)
		c, err := v.Connection(t.Context(), made, noon)
		sub, subErr := v.Subscription(t.Context(), made, noon)
		if err == nil && subErr == nil {
			t.Fatal("it is of both kinds")
		}
		if err != nil && subErr != nil {
			return
		}
		parsed, libraryErr := library.Parse(made, func(*jwt.Token) (any, error) { return secret, nil })
		if libraryErr != nil {
			t.Fatalf("the library refuses it: %v", libraryErr)
		}
		said := parsed.Claims.(jwt.MapClaims)
		if _, there := said["channel"]; there != (subErr == nil) {
			t.Errorf("channel is there: %v; as a subscription: %v", there, subErr)
		}
		want, _ := said["sub"].(string)
		channel, _ := said["channel"].(string)
		if got := c.User + sub.User; got != want || sub.Channel != channel {
			t.Errorf("user %q, channel %q, want %q, %q", got, sub.Channel, want, channel)
		}
		if exp, ok := said["exp"].(float64); ok && int64(exp) <= noon.Unix() {
			t.Errorf("it expired at %v", exp)
		}
		if info := append(c.Info, sub.Info...); said["b64info"] == nil && (info != nil || said["info"] != nil) {
			var got any
			if err := json.Unmarshal(info, &got); err != nil || !reflect.DeepEqual(got, said["info"]) {
				t.Errorf("info %s, want %v (%v)", info, said["info"], err)
			}
		}
		if _, wantSubs := said["subs"].(map[string]any); len(c.Subs) > 0 && !wantSubs {
			t.Errorf("subs %v out of nothing", c.Subs)
		}
	})
}
