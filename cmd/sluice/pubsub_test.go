package main

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/cmd/internal/clitest"
)

// pub and sub against a real gateway.

// startSub starts a `sluice sub` that has joined the channel when it returns.
func startSub(t *testing.T, url string, args ...string) *clitest.Running {
	t.Helper()
	sub := clitest.Start(t, newRootCommand(nil), nil, append([]string{"sub", "logs", "--url", url}, args...)...)
	// The first line shows that it has joined; it is taken off what is compared.
	for {
		pub := clitest.Start(t, newRootCommand(nil), nil, "pub", "logs", "joined?", "--url", url)
		pub.WantExit(0)
		if strings.Contains(sub.Stdout.String(), "joined?") {
			return sub
		}
		select {
		case <-sub.Exited:
			t.Fatalf("sub has ended; stderr:\n%s", sub.Stderr)
		default:
		}
	}
}

// afterJoining returns what a subscriber printed but for the lines that found out
// whether it had joined.
func afterJoining(sub *clitest.Running) string {
	text := sub.Stdout.String()
	for strings.HasPrefix(text, "joined?\n") {
		text = text[len("joined?\n"):]
	}
	return text
}

func TestLinesArriveCompleteAndInOrder(t *testing.T) {
	const n = 200_000
	s := startHere(t)
	sub := startSub(t, s.url, "--fail-on-gap")
	pub := clitest.Start(t, newRootCommand(nil), strings.NewReader(clitest.Numbered(1, n)), "pub", "logs", "--url", s.url)
	pub.WantExit(0)
	sub.Stdout.Wait(t, fmt.Sprintf("line %d\n", n))
	sub.Stop(errors.New("terminated"))
	sub.WantExit(0)
	if afterJoining(sub) != clitest.Numbered(1, n) {
		t.Error("what arrived is not what was sent")
	}
	if sub.Stderr.String() != "" || pub.Stderr.String() != "" {
		t.Errorf("stderr of sub %q, of pub %q", sub.Stderr, pub.Stderr)
	}
	s.stop()
}

// Connections are cut repeatedly while lines pass. Nothing is lost, and no more lines come again than pub
// says that it has sent again. What the gateway still has of a connection that was cut may come between them.
func TestNothingIsLostWhenConnectionsAreCut(t *testing.T) {
	const n = 200_000
	s := startHere(t, "--history", "400000", "--history-bytes", "256MiB")
	listen := func() *clitest.Pipes {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return clitest.PipeTo(t, l, strings.TrimPrefix(s.url, "http://"))
	}
	pubProxy, subProxy := listen(), listen()
	var sub, pub *clitest.Running
	defer func() {
		if t.Failed() {
			t.Logf("stderr of sub:\n%s\nof pub:\n%s", sub.Stderr, pub.Stderr)
		}
	}()
	sub = startSub(t, "ws://"+subProxy.Listener.Addr().String(), "--fail-on-gap")
	pub = clitest.Start(t, newRootCommand(nil), &cuttingReader{Reader: strings.NewReader(clitest.Numbered(1, n)), every: 40, cut: []func(){pubProxy.Cut, subProxy.Cut}},
		"pub", "logs", "--url", "ws://"+pubProxy.Listener.Addr().String())
	pub.WantExit(0)
	sub.Stdout.Wait(t, fmt.Sprintf("line %d\n", n))
	sub.Stop(errors.New("terminated"))
	sub.WantExit(0, "reconnected")
	pub.WantExit(0, "reconnected", "resent what was not confirmed, ", "some may have arrived twice")

	highest, lines := 0, 0
	for line := range strings.Lines(afterJoining(sub)) {
		var i int
		if _, err := fmt.Sscanf(line, "line %d\n", &i); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if i > highest+1 {
			t.Fatalf("line %d follows %d, lines between are lost", i, highest)
		}
		highest, lines = max(highest, i), lines+1
	}
	resent := 0
	for _, text := range strings.Split(pub.Stderr.String(), "resent what was not confirmed, ")[1:] {
		count, err := strconv.Atoi(strings.ReplaceAll(strings.Fields(text)[0], ",", ""))
		if err != nil {
			t.Fatal(err)
		}
		resent += count
	}
	if again := lines - n; highest != n || again > resent {
		t.Errorf("the highest line is %d, want %d; %d lines came again, pub says it for %d", highest, n, again, resent)
	}
	s.stop()
}

// cuttingReader calls one of cut, in turn, at each so many reads.
type cuttingReader struct {
	*strings.Reader
	every int
	cut   []func()
	reads int
}

func (r *cuttingReader) Read(p []byte) (int, error) {
	if r.reads++; r.reads%r.every == 0 {
		r.cut[r.reads/r.every%len(r.cut)]()
	}
	return r.Reader.Read(p[:min(len(p), 4<<10)])
}

func TestSubTellsThatTheGatewayWasRestarted(t *testing.T) {
	s := startHere(t)
	sub := startSub(t, s.url)
	s.stop()
	startHere(t, "--listen", strings.TrimPrefix(s.url, "http://"))
	sub.Stderr.Wait(t, "gap: publications after offset ")
	pub := clitest.Start(t, newRootCommand(nil), nil, "pub", "logs", "after", "--url", s.url)
	pub.WantExit(0)
	sub.Stdout.Wait(t, "after\n")
	sub.Stop(errors.New("terminated"))
	sub.WantExit(0, "closed with 1001 (server is shutting down); reconnecting", "the channel has a new epoch, ")
}

func TestPubIsToldThatClientsMayOnlyListen(t *testing.T) {
	s := startHere(t, "--raw", "listen")
	pub := clitest.Start(t, newRootCommand(nil), strings.NewReader("a\n"), "pub", "logs", "--url", s.url)
	pub.WantExit(1, "closed with 1008 (publishing is not allowed here): pub publishes as a client; allow clients to publish with --raw publish",
		"curl -d MESSAGE http://127.0.0.1:9000/publish/CHANNEL", "line 1 is not published: rejected by the gateway")
}

func TestPubIsToldOfAMessageTooBig(t *testing.T) {
	s := startHere(t, "--max-message", "1KiB")
	pub := clitest.Start(t, newRootCommand(nil), strings.NewReader("a\n"+strings.Repeat("x", 2000)+"\n"), "pub", "logs", "--url", s.url)
	pub.WantExit(1, "closed with 1009 (message too big): the longest unconfirmed message is line 2 with 2000 bytes")
}

func TestClientsOfTheInternalListenerAreSentToThePublicOne(t *testing.T) {
	s := startHere(t)
	for _, command := range []string{"sub news", "pub news x"} {
		c := clitest.Start(t, newRootCommand(nil), nil, append(strings.Fields(command), "--url", s.internal)...)
		c.WantExit(1, "refused with 404 Not Found; this is the gateway's internal listener; clients connect to the public one, by default on port 8000\n")
	}
	s.stop()
}

func TestPubAndSubOverTLS(t *testing.T) {
	s := startHere(t)
	proxy, certificate := clitest.TLSProxy(t, strings.TrimPrefix(s.url, "http://"))
	url := "wss://" + proxy
	pub := clitest.Start(t, newRootCommand(nil), nil, "pub", "a/b 比分", "x", "--url", url, "--cacert", certificate)
	pub.WantExit(1, "white space") // the gateway's own words
	for _, line := range []string{"one", "", "three\nin two lines"} {
		pub = clitest.Start(t, newRootCommand(nil), nil, "pub", "a/b比分", line, "--url", url, "--cacert", certificate)
		pub.WantExit(0)
	}
	pub = clitest.Start(t, newRootCommand(nil), nil, "pub", "a/b比分", "\x00\xff", "--binary", "--url", url, "--insecure-skip-verify")
	pub.WantExit(0)
	// The history exists until its time has passed.
	sub := clitest.Start(t, newRootCommand(nil), nil, "sub", "a/b比分", "--history", "4", "--count", "4", "--url", url, "--cacert", certificate)
	sub.WantExit(0)
	if diff := cmp.Diff("one\n\nthree\nin two lines\n\x00\xff\n", sub.Stdout.String()); diff != "" {
		t.Errorf("stdout (-want +got):\n%s", diff)
	}
}

// pub and sub connect with a token from a file or the environment, and the gateway accepts
// tokens of each of its secrets.
func TestTokensOfPubAndSub(t *testing.T) {
	secret := func(letter string) string { return clitest.WriteFile(t, "secret", strings.Repeat(letter, 32)) }
	old, fresh := secret("o"), secret("n")
	s := startHere(t, "--token-hmac-secret-file", old, "--token-hmac-secret-file", fresh, "--namespaces", clitest.WriteFile(t, "namespaces.json", `{"namespaces": [{"name": "logs",
		"allow_subscribe_for_client": true, "allow_publish_for_subscriber": true, "allow_raw_publish": true, "history_size": 10, "history_ttl": "60s", "force_recovery": true}]}`))
	tokenOf := func(secret string) string {
		code, stdout, stderr := runOnce(nil, "token", "make", "--user=42", "--token-hmac-secret-file", secret)
		if code != 0 {
			t.Fatal(stderr)
		}
		return strings.TrimSpace(stdout)
	}
	file, variable := tokenOf(old), tokenOf(fresh)
	path := clitest.WriteFile(t, "token", file+"\n")

	refused := "specify a token with --token-file or SLUICE_TOKEN, or, for a proxy, the header it requires with --header"
	runs := func(code int, env []string, stderr string, args ...string) (stdout string) {
		t.Helper()
		got, stdout, errs := runOnce(env, append(args, "--url", s.url)...)
		if got != code || !strings.Contains(errs, stderr) || strings.Contains(errs, "eyJ") {
			t.Errorf("%v: exit code %d, stderr %q", args, got, errs)
		}
		return stdout
	}
	runs(1, nil, refused, "pub", "logs:x", "no token")
	sent := "; a token was sent. Check it with 'sluice token verify', and see the gateway's log\n"
	runs(1, []string{"SLUICE_TOKEN=" + file + "x"}, "401 Unauthorized (The token is invalid)"+sent, "pub", "logs:x", "a bad token")
	runs(1, []string{"SLUICE_TOKEN=" + file}, "(Unknown channel: its namespace is not configured); check the channel, and that ", "pub", "others:x", "nobody's channel")
	runs(1, []string{"SLUICE_TOKEN=" + strings.Repeat("x", 5000)}, ", because the token makes the URL too long; is it the right file?\n", "pub", "logs:x", "no token at all")
	runs(0, nil, "", "pub", "logs:x", "of a file", "--token-file", path)
	runs(0, []string{"SLUICE_TOKEN_FILE=" + path, "SLUICE_TOKEN=nonsense"}, "", "pub", "logs:x", "the file comes first")
	runs(0, []string{"SLUICE_TOKEN=" + variable}, "", "pub", "logs:x", "of the environment")
	for _, env := range []string{"SLUICE_TOKEN=" + file, "SLUICE_TOKEN_FILE=" + path} {
		if got := runs(0, []string{env}, "", "sub", "logs:x", "--history", "3", "--count", "3"); got != "of a file\nthe file comes first\nof the environment\n" {
			t.Errorf("sub printed %q", got)
		}
	}
	runs(2, nil, "--token-file "+path+"x: no such file", "sub", "logs:x", "--token-file", path+"x")
	runs(2, nil, ": the file is empty; ", "sub", "logs:x", "--token-file", clitest.WriteFile(t, "empty", "\n"))
	s.stop()
	// The gateway ignores the clients' variables.
	runCheck(t, 0, []string{"SLUICE_TOKEN=x", "SLUICE_TOKEN_FILE=y"}, freePorts...)
}
