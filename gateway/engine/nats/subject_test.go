package nats

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"sluice/gateway/channel"
)

// oddNames returns n different names of channels, with everything that a subject does not allow in a token.
// They are the same every time.
func oddNames(n int) []string {
	const symbols = ". * > _:$#/-=!~azAZ09äß€日本語🙂\"\\{}%&"
	runes := []rune(strings.ReplaceAll(symbols, " ", ""))
	draw := rand.New(rand.NewPCG(1, 2))
	names := make([]string, 0, n)
	seen := make(map[string]bool, n)
	add := func(name string) {
		if len(name) > 255 {
			name = name[:255]
			for !utf8.ValidString(name) {
				name = name[:len(name)-1]
			}
		}
		if name != "" && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	for _, name := range []string{".", "*", ">", "a.b", "a.*", "a.>", "*.a", ">.a", "..", "=", "=a", "=YQ", "!", "!probe", "$SYS", "$JS.API.>", "a b", " ",
		strings.Repeat("x", 255), strings.Repeat(".", 255), strings.Repeat("€", 85)} {
		add(name)
	}
	for len(names) < n {
		switch draw.IntN(4) {
		case 0:
			add(fmt.Sprintf("chat:room-%d", draw.IntN(1<<30)))
		case 1: // a long one
			var name strings.Builder
			for name.Len() < 255 {
				name.WriteRune(runes[draw.IntN(len(runes))])
			}
			add(name.String())
		case 2: // nearly the same ones
			add(strings.Repeat(string(runes[draw.IntN(len(runes))]), 1+draw.IntN(4)) + fmt.Sprint(draw.IntN(1<<20)))
		default:
			var name strings.Builder
			for range 1 + draw.IntN(20) {
				name.WriteRune(runes[draw.IntN(len(runes))])
			}
			add(name.String())
		}
	}
	return names
}

func TestEveryNameIsOneTokenOfItsOwn(t *testing.T) {
	names := oddNames(100_000)
	of := make(map[string]string, len(names))
	valid := 0
	for _, name := range names {
		if channel.ValidName(name) {
			valid++
		}
		tok := token(name)
		if other, ok := of[tok]; ok {
			t.Fatalf("%q and %q have the token %q", name, other, tok)
		}
		of[tok] = name
		if len(tok) > 341 || tok[0] == ownMark || strings.ContainsAny(tok, ". *>\t\r\n") {
			t.Fatalf("%q has the token %q", name, tok)
		}
		for i := range len(tok) {
			if tok[i] <= ' ' || tok[i] > '~' {
				t.Fatalf("%q has the token %q", name, tok)
			}
		}
		if back, ok := channelOf(tok); !ok || back != name {
			t.Fatalf("%q has the token %q, which is %q, %v", name, tok, back, ok)
		}
	}
	if valid < len(names)*9/10 {
		t.Errorf("only %d of %d names are names that a channel may have", valid, len(names))
	}
}

func TestTokensThatNoChannelHas(t *testing.T) {
	for _, tok := range []string{"", "!probe", "!", "=", "=YQ" /* a, which needs no encoding */, "=Lh" /* bits that are left over */, "=L", "=Lg==", "a.b", "ä"} {
		if name, ok := channelOf(tok); ok {
			t.Errorf("%q is the token of %q", tok, name)
		}
	}
}

func TestTokensOfPlainNamesCostNothing(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { channelOf(token("chat:room-17")) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// The hash decides where a channel's history lies.
func TestTheHashStaysTheSame(t *testing.T) {
	if got := hash("chat:room-17"); got != 0x78de6cc3e8dd1330 {
		t.Errorf("got %#x", got)
	}
}
