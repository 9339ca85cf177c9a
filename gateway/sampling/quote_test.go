package sampling

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestQuote(t *testing.T) {
	long := strings.Repeat("x", quoteMax)
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{`https://a.example "quoted" 比分`, `https://a.example "quoted" 比分`},
		{"a\r\nlevel=ERROR msg=forged", `a\r\nlevel=ERROR msg=forged`},
		{"\x1b[2J\x00\x7f\u0085\u2028\u202e", `\x1b[2J\x00\x7f\u0085\u2028\u202e`},
		{"\xff\xc3(\xed\xa0\x80\ufffd", "\\xff\\xc3(\\xed\\xa0\\x80\ufffd"},
		{`\n`, `\\n`},
		{long, long},
		{long + "x", long + "..."},
		{long[:quoteMax-1] + "é", long[:quoteMax-1] + "..."},
		{long[:quoteMax-2] + "é", long[:quoteMax-2] + "é"},
		{long[:quoteMax-3] + "\xff", long[:quoteMax-3] + "..."}, // no half of an escape
	} {
		if diff := cmp.Diff(tt.want, Quote(tt.in)); diff != "" {
			t.Errorf("%q: %s", tt.in, diff)
		}
	}
}

func TestHostileTextLeavesOneLineOfLog(t *testing.T) {
	for _, hostile := range []string{"\r", "\n", "\r\n", "\x1b[31m", "\xff", "\"}\n{\"msg\":\"forged\"}", "\u2028"} {
		for _, field := range []string{"channel", "origin", "host", "address", "query", "subprotocol"} {
			var out bytes.Buffer
			slog.New(New(slog.NewJSONHandler(&out, nil))).Warn("refused", field, Quote("a"+hostile+"b"))
			var r map[string]any
			if err := json.Unmarshal(out.Bytes(), &r); err != nil || strings.Count(out.String(), "\n") != 1 {
				t.Errorf("%s %q: %v: %q", field, hostile, err, out.String())
			}
			if r["msg"] != "refused" || r[field] != Quote("a"+hostile+"b") {
				t.Errorf("%s %q: %v", field, hostile, r)
			}
		}
	}
}

func FuzzQuote(f *testing.F) {
	for _, seed := range []string{"", "news", "\r\n", "\x1b[2J", "\xff", `\`, "é", "\u202e", strings.Repeat("界", 60)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q := Quote(s)
		if len(q) > quoteMax+len("...") {
			t.Errorf("%d bytes", len(q))
		}
		if !utf8.ValidString(q) {
			t.Errorf("not UTF-8: %q", q)
		}
		for _, r := range q {
			if !strconv.IsPrint(r) {
				t.Errorf("%q holds %U", q, r)
			}
		}
		for name, h := range map[string]func(*bytes.Buffer) slog.Handler{
			"json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
			"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		} {
			var out bytes.Buffer
			slog.New(h(&out)).Info("m", "k", q)
			if strings.Count(out.String(), "\n") != 1 || strings.ContainsAny(out.String(), "\r\x1b\u2028\u0085") {
				t.Errorf("%s: %q", name, out.String())
			}
			if name == "json" && !json.Valid(out.Bytes()) {
				t.Errorf("no JSON: %q", out.String())
			}
		}
	})
}
