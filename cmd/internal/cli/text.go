package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// passwordInURL matches up to the last @, because this URL could not be parsed.
var passwordInURL = regexp.MustCompile(`^([^:]*://[^:@]*):.*@`)

// RedactURL replaces the password in a URL, even in a malformed one or one without a scheme, for output.
func RedactURL(text string) string {
	if !strings.Contains(text, "://") {
		const scheme = "any://"
		return strings.TrimPrefix(RedactURL(scheme+text), scheme)
	}
	if u, err := url.Parse(text); err != nil {
		return passwordInURL.ReplaceAllString(text, "$1:xxxxx@")
	} else if _, has := u.User.Password(); has {
		return u.Redacted()
	}
	return text
}

// PrintJSON prints v as JSON for people.
func PrintJSON(w io.Writer, v any) error {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	return out.Encode(v)
}

// Notes returns a function that prints a line for the user on stderr.
func Notes(stderr io.Writer) func(format string, args ...any) {
	return func(format string, args ...any) {
		fmt.Fprintf(stderr, "sluice: "+format+"\n", args...)
	}
}

// IsTerminal reports whether a person may be reading. A character device that is not a
// terminal, such as /dev/null, does no harm here.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// Printable removes characters that could confuse a terminal.
func Printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return -1
}

// Line makes one line of text from outside, without characters that could confuse a terminal.
func Line(s string) string { return strings.Map(Printable, strings.ToValidUTF8(s, "")) }

// Cell makes one short line of text from outside, without characters that could confuse a
// terminal.
func Cell(s string) string {
	s = Line(s)
	if runes := []rune(s); len(runes) > cellMax {
		s = string(runes[:cellMax-3]) + "..."
	}
	return s
}

// cellMax is the greatest number of characters that Cell returns.
const cellMax = 200

// FormatCount formats a number with thousands separators.
func FormatCount(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// AboutSize formats a size with one decimal.
func AboutSize(bytes int) string {
	n, unit := float64(bytes), "B"
	for _, larger := range []string{"KiB", "MiB", "GiB"} {
		if n >= 1024 {
			n, unit = n/1024, larger
		}
	}
	return strings.TrimSuffix(strconv.FormatFloat(n, 'f', 1, 64), ".0") + unit
}

// FormatDuration formats a duration without trailing zero units: 5m, not 5m0s.
func FormatDuration(d time.Duration) string {
	s := d.String()
	for _, tail := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, tail) {
			s = s[:len(s)-len("0s")]
		}
	}
	return s
}
