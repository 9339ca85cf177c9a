package gateway

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEveryFaultOfAConfigSaysHowToMendIt(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  Config
		want []string
	}{
		{"defaults", Config{}, nil},
		{"off where that is possible", Config{History: -1, PingInterval: -1, WriteTimeout: -1, SendBuffer: -1, LoopTimeout: -1}, nil},
		{"sizes", Config{MaxMessage: 64<<20 + 1, SendBuffer: 1 << 10}, []string{
			"MaxMessage 67108865B is too large: messages are encoded in one piece; use at most 64MiB",
			"ChannelBuffer 256KiB cannot hold two messages of MaxMessage 67108865B: use at least 134219778B",
			"MaxPending 256KiB cannot hold the reply to a message of MaxMessage 67108865B: use at least 67141633B",
			"SendBuffer 1KiB is too small for TCP to work well: use at least 4KiB"}},
		{"small sizes", Config{MaxMessage: 100}, []string{
			"MaxMessage 100B is too small: use at least 125B, the size of a control frame"}},
		{"buffers", Config{ChannelBuffer: 2 << 30, MaxPending: 64 << 10}, []string{
			"ChannelBuffer 2GiB is too large: use at most 1GiB",
			"MaxPending 64KiB cannot hold the reply to a message of MaxMessage 64KiB: use at least 96KiB",
			"MaxBuffered 512MiB cannot hold a few channels of ChannelBuffer 2GiB: use at least 16GiB"}},
		{"history", Config{HistoryBytes: 1000, History: 2 << 20, HistoryTTL: time.Millisecond}, []string{
			"History 2097152 is too large: use at most 1048576",
			"HistoryTTL 1ms is too short: timeouts are checked once a second; use at least 1s",
			"HistoryBytes 1000B is too small: use at least 1KiB, or History off"}},
		{"a stuck loop", Config{LoopTimeout: 10 * time.Second}, []string{
			"LoopTimeout 10s is too short: the process must run long enough to log a stuck loop's stack, which happens after 10 s; use at least 11s, or off"}},
		{"origins", Config{AllowedOrigins: []string{"https://a.example/", "b.example"}}, []string{
			`AllowedOrigins: "https://a.example/" ends in a slash, which a browser never sends; write "https://a.example"`,
			`AllowedOrigins: "b.example" has no scheme, and http and https are different origins; write, for example, "https://b.example"`}},
		{"braces in a value", Config{WSPaths: []string{"{MaxMessage}"}, AllowedOrigins: []string{"{Raw}"}}, []string{
			`WSPaths "{MaxMessage}" must be a plain path such as /socket`,
			`AllowedOrigins: "{Raw}" has no scheme, and http and https are different origins; write, for example, "https://{Raw}"`}},
		{"rates", Config{MessageRate: 2_000_000, JoinRate: 2_000_000, ChannelRate: -1}, []string{
			"MessageRate 2000000 is too large: use at most 1000000, or off",
			"JoinRate 2000000 is too large: use at most 1000000, or off",
			"AcceptRate 0 and ChannelRate -1 must not be negative: omit the one that should have no limit"}},
		{"greeting", Config{Greeting: strings.Repeat("x", 70_000)}, []string{
			"Greeting has 70000 bytes, more than MaxMessage 64KiB: use a shorter one"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			if err := tt.cfg.Validate(); err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestValidateReturnsTypedFaults(t *testing.T) {
	var faults Faults
	if err := (Config{MaxMessage: 100, MaxPending: 1}).Validate(); !errors.As(err, &faults) {
		t.Fatalf("%T is not Faults", err)
	}
	want := Faults{
		{Field: "MaxMessage", Value: "100B", Why: "is too small", Fix: "use at least 125B, the size of a control frame"},
		{Field: "MaxPending", Value: "1B", Why: "cannot hold the reply to a message of {MaxMessage} 100B", Fix: "use at least 32868B"},
	}
	if diff := cmp.Diff(want, faults); diff != "" {
		t.Error(diff)
	}
}

// A program that embeds the gateway has no flags.
func TestTextsNameNoFlags(t *testing.T) {
	flag := regexp.MustCompile(`(^|[^-])--[a-z]`)
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if text, ok := n.(*ast.BasicLit); ok && text.Kind == token.STRING && flag.MatchString(text.Value) {
				t.Errorf("%v: %s names a flag: name a field of Config", set.Position(text.Pos()), text.Value)
			}
			return true
		})
	}
}
