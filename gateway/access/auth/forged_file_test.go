package auth

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write testdata/forged.json anew")

// forgedFile is the table of forged tokens for tests of other packages, which send them
// over sockets: those that are bad at any time, and that fit into a URL.
type forgedFile struct {
	Secret     string            `json:"secret"`
	PublicKeys []string          `json:"public_keys"`
	Tokens     map[string]string `json:"tokens"` // by what is wrong
}

const forgedBytesMax = 1500

func madeForgedFile(t testing.TB) (f forgedFile) {
	k := keys()
	f = forgedFile{string(secret), []string{string(k.rsa.public), string(k.ec.public), string(k.ec384.public), string(k.ec521.public), string(k.ed.public)}, map[string]string{}}
	for _, x := range forgeries(t, "http://127.0.0.1:1") {
		if x.token != "" && len(x.token) <= forgedBytesMax && x.want != ErrExpired && x.want != errEarly {
			f.Tokens[strings.ToValidUTF8(x.name, "?")] = x.token
		}
	}
	return f
}

// What other packages send is what is refused here.
func TestForgedTokensForOthers(t *testing.T) {
	path := filepath.Join("testdata", "forged.json")
	made := madeForgedFile(t)
	if *update {
		text := must(json.MarshalIndent(made, "", " "))
		if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file forgedFile
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	o := Options{HMACSecrets: [][]byte{[]byte(file.Secret)}, Audience: "push", Issuer: "shop"}
	for _, key := range file.PublicKeys {
		o.PublicKeys = append(o.PublicKeys, []byte(key))
	}
	v := verifier(t, o)
	for name, token := range file.Tokens {
		if made.Tokens[name] == "" {
			t.Errorf("%s: is not in the table any more: go test ./gateway/access/auth -run Others -update", name)
		}
		for _, now := range []time.Time{noon, time.Now(), noon.AddDate(1, 0, 0)} {
			if _, err := v.Connection(t.Context(), token, now); err == nil {
				t.Errorf("%s: passes at %v", name, now)
			}
		}
	}
	for name := range made.Tokens {
		if file.Tokens[name] == "" {
			t.Errorf("%s: is not in the file: go test ./gateway/access/auth -run Others -update", name)
		}
	}
}
