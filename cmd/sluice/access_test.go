package main

import (
	"crypto/ed25519"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/clitest"
)

// A mistake about tokens or permissions is one fault that names the flag and says what to
// do, before anything listens.
func TestCheckTellsMistakesAboutRights(t *testing.T) {
	_, key, _ := ed25519.GenerateKey(nil) // cannot fail
	private, public := clitest.KeyFiles(t, key)
	secret := clitest.WriteFile(t, "secret", strings.Repeat("s", 40))
	namespaces := clitest.WriteFile(t, "typo.json", `{"namespaces": [{"name": "chat", "alow_subscribe_for_client": true, "presense": true}]}`)
	var nine []string
	for i := range 9 {
		_, key, _ := ed25519.GenerateKey(nil) // cannot fail
		_, one := clitest.KeyFiles(t, key)
		text, err := os.ReadFile(one)
		if err != nil {
			t.Fatal(err)
		}
		nine = append(nine, clitest.WriteFile(t, fmt.Sprintf("%d.pem", i), string(text)))
	}
	for _, test := range []struct {
		args []string
		want []string // what a line contains
	}{
		{[]string{"--token-public-key-file", private}, []string{"--token-public-key-file " + private + ": it contains a private key; "}},
		{[]string{"--token-hmac-secret-file", private}, []string{"--token-hmac-secret-file " + private + ": the secret is a PEM key or certificate: "}},
		{[]string{"--token-hmac-secret-file", public}, []string{"--token-hmac-secret-file " + public + ": the secret is a PEM key or certificate: "}},
		{[]string{"--token-public-key-file", secret}, []string{"--token-public-key-file " + secret + ": it contains no PEM public key; "}},
		{[]string{"--token-hmac-secret-file", clitest.WriteFile(t, "short", "short")}, []string{": the secret is 5 bytes long but must be at least 32; "}},
		{slices.Repeat([]string{"--token-hmac-secret-file", secret}, 9), []string{"too many secrets (9): a token may be checked against all of them; use at most 8"}},
		{[]string{"--token-hmac-secret-file", secret, "--token-hmac-secret-file", private}, []string{"--token-hmac-secret-file " + private + ": the secret is a PEM key or certificate: "}},
		{[]string{"--token-public-key-file", strings.Join(nine, ",")}, []string{"too many public keys (9): a token may be checked against all of them; use at most 8"}},
		{[]string{"--namespaces", namespaces}, []string{
			"--namespaces " + namespaces + `: namespace "chat": "alow_subscribe_for_client" is unknown: did you mean "allow_subscribe_for_client"?`,
			"--namespaces " + namespaces + `: namespace "chat": "presense" is unknown: did you mean "presence"?`,
		}},
		{[]string{"--namespaces", clitest.WriteFile(t, "n.json", `{"namespaces": []}`), "--history", "5"}, []string{"--history 5 has no effect with --namespaces"}},
		{[]string{"--jwks-url", "http://id.example.com/keys"}, []string{"--jwks-url http://id.example.com/keys: the key set URL uses http"}},
		{[]string{"--jwks-url", "https://u:secret@id.example.com/keys"}, []string{"--jwks-url https://u:xxxxx@id.example.com/keys: the key set URL contains a password"}},
		{[]string{"--token-audience", "push"}, []string{"--token-audience and --token-issuer need a key that verifies tokens: "}},
		{[]string{"--insecure", "--trusted-proxies", "10.0.0.0/8"}, []string{"--insecure lets every client do anything, and clients on other machines can connect through a proxy"}},
		{[]string{"--insecure", "--listen", "0.0.0.0:0"}, []string{"--insecure lets every client do anything, and other machines can reach --listen 0.0.0.0:0: "}},
	} {
		var got []string
		for _, line := range runCheck(t, cli.ExitFailed, nil, append(slices.Clone(freePorts), test.args...)...) {
			if strings.HasPrefix(line, "fault") {
				got = append(got, line)
			}
		}
		for i, want := range test.want {
			if len(got) != len(test.want) || !strings.Contains(got[i], want) {
				t.Errorf("check %v: got %q, want %q", test.args, got, test.want)
				break
			}
		}
	}
}

func TestCheckTellsWhatClientsMayDo(t *testing.T) {
	secret, again := clitest.WriteFile(t, "secret", strings.Repeat("s", 40)), clitest.WriteFile(t, "again", strings.Repeat("s", 40)+"\n")
	for _, path := range []string{secret, again} {
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open := clitest.WriteFile(t, "open", strings.Repeat("s", 40))
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	namespaces := clitest.WriteFile(t, "n.json", `{"namespaces": [{"name": "chat", "allow_subscribe_for_client": true}]}`)
	const tokensAlone = "ok permissions: from tokens only, without --namespaces; clients can subscribe to the channels that their tokens name"
	for _, test := range []struct {
		args, want []string
	}{
		{nil, nil},
		{[]string{"--insecure"}, []string{"warning --insecure: every client can do anything, and no token is verified; for trials only"}},
		{[]string{"--token-hmac-secret-file", secret}, []string{tokensAlone}},
		{[]string{"--token-hmac-secret-file", open}, []string{
			"warning --token-hmac-secret-file " + open + ": every user of this machine can read it and make tokens with it; run 'chmod o= " + open + "'", tokensAlone}},
		{[]string{"--token-hmac-secret-file", secret, "--token-hmac-secret-file", again}, []string{
			"warning --token-hmac-secret-file " + again + " contains the same secret as an earlier file: use a new secret for rotation", tokensAlone}},
		{[]string{"--namespaces", namespaces}, []string{"ok permissions: from --namespaces; every client is anonymous, because no key verifies tokens"}},
		{[]string{"--token-hmac-secret-file", secret, "--namespaces", namespaces}, []string{"ok permissions: from tokens and --namespaces"}},
	} {
		var got []string
		for _, line := range runCheck(t, 0, nil, append(slices.Clone(freePorts), test.args...)...) {
			if strings.HasPrefix(line, "warning --") || strings.HasPrefix(line, "ok permissions") {
				got = append(got, line)
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("check %v (-want +got):\n%s", test.args, diff)
		}
	}
}
