package deploy_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// screen is what a terminal shows.
type screen struct{ output }

var escape = regexp.MustCompile(`\x1b(?:\[[0-9;?]*[a-zA-Z]|[()][A-Z0-9]|[=>])`)

// String returns the lines without colors; of one that was written over, the last text.
func (s *screen) String() string {
	var b strings.Builder
	for line := range strings.Lines(escape.ReplaceAllString(s.output.String(), "")) {
		line = strings.TrimRight(line, "\r\n")
		b.WriteString(line[strings.LastIndex(line, "\r")+1:])
		b.WriteByte('\n')
	}
	return b.String()
}

// alike compares what a page shows with what a command printed. Figures, times and
// names that the gateway makes up differ from run to run and are not compared.
func alike(b block, printed string) error {
	different := textDiffers
	if b.Language == "json" {
		different = jsonDiffers
	}
	if why := different(b.Text, printed); why != "" {
		return fmt.Errorf("%s; printed was:\n%s", why, printed)
	}
	return nil
}

// textDiffers finds the lines of a page, in their order, among those printed. Lines in
// between may be left out; dots in a line stand for anything.
func textDiffers(shown, printed string) string {
	lines := strings.Split(printed, "\n")
	for line := range strings.Lines(shown) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "..." || words[0] == "…" {
			continue
		}
		i := slices.IndexFunc(lines, func(candidate string) bool { return sameBeginning(words, strings.Fields(candidate)) })
		if i < 0 {
			return fmt.Sprintf("no line begins as %q", strings.TrimSpace(line))
		}
		lines = lines[i+1:]
	}
	return ""
}

var digit = regexp.MustCompile(`[0-9]`)

// sameBeginning compares the first words of two lines, three at most. A word with a
// figure in it is like any other with one.
func sameBeginning(shown, printed []string) bool {
	for i, word := range shown[:min(3, len(shown))] {
		switch {
		case strings.Contains(word, "...") || strings.Contains(word, "…"):
			return true
		case i >= len(printed):
			return false
		case digit.MatchString(word) && digit.MatchString(printed[i]):
		case word != printed[i]:
			return false
		}
	}
	return true
}

// jsonDiffers finds the values of a page, in their order, among those printed. There
// may be other lines between them.
func jsonDiffers(shown, printed string) string {
	want, rest := nextValue(shown)
	if want == nil {
		return textDiffers(shown, printed) // dots are no JSON
	}
	why := "no JSON"
	for want != nil {
		var got any
		if got, printed = nextValue(printed); got == nil {
			return why
		}
		if why = shapeDiffers("", want, got); why == "" {
			why = "no JSON after it"
			want, rest = nextValue(rest)
		}
	}
	return ""
}

// nextValue returns the first JSON value that begins a line, and what follows it.
func nextValue(text string) (value any, rest string) {
	for text != "" {
		d := json.NewDecoder(strings.NewReader(text))
		if d.Decode(&value) == nil {
			return value, text[d.InputOffset():]
		}
		_, text, _ = strings.Cut(text, "\n")
	}
	return nil, ""
}

// shapeDiffers compares keys and kinds of values.
func shapeDiffers(path string, shown, printed any) string {
	switch shown := shown.(type) {
	case map[string]any:
		object, ok := printed.(map[string]any)
		want, got := slices.Sorted(maps.Keys(shown)), slices.Sorted(maps.Keys(object))
		if !ok || !slices.Equal(want, got) {
			return fmt.Sprintf("keys of the object %s: the page has %q, printed was %q", path, want, got)
		}
		for key, value := range shown {
			if why := shapeDiffers(path+"."+key, value, object[key]); why != "" {
				return why
			}
		}
	case []any:
		array, ok := printed.([]any)
		if !ok || len(shown) > len(array) {
			return fmt.Sprintf("array %s: the page has %d values, printed was %v", path, len(shown), printed)
		}
		for i, value := range shown {
			if why := shapeDiffers(fmt.Sprintf("%s[%d]", path, i), value, array[i]); why != "" {
				return why
			}
		}
	default:
		if a, b := fmt.Sprintf("%T", shown), fmt.Sprintf("%T", printed); a != b {
			return fmt.Sprintf("%s: the page has a %s, printed was a %s", path, a, b)
		}
	}
	return ""
}
