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

// alike compares what a page shows with what a command printed.
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

// varies is what differs from run to run, in any text, and what it is replaced with.
var varies = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b`), "UUID"},
	{regexp.MustCompile(`^id: [0-9a-z]{9,13}:`), "id: EPOCH:"},
	{regexp.MustCompile(`\b(\w{3}, \d\d \w{3} )?\d{4}(-\d\d-\d\d)?[T ]\d\d:\d\d:\d\d(\.\d+)?( GMT|Z|[+-]\d\d:?\d\d)?`), "TIME"},
	{regexp.MustCompile(`\b(\d+(\.\d+)?(ns|µs|ms|s|m|h))+\b`), "DURATION"},
	{regexp.MustCompile(`^retry: \d+$`), "retry: RANDOM"},
	{regexp.MustCompile(`:[3-6]\d{4}\b`), ":PORT"}, // that the system has chosen
}

func constant(text string) string {
	for _, v := range varies {
		text = v.pattern.ReplaceAllString(text, v.by)
	}
	return text
}

var dots = regexp.MustCompile(`\.\.\.|…`)

// textDiffers finds the lines of a page, in their order, among those printed. Lines in
// between may be left out; dots in a line stand for anything.
func textDiffers(shown, printed string) string {
	lines := strings.Split(printed, "\n")
	for line := range strings.Lines(shown) {
		line = strings.TrimSpace(line)
		if line == "" || dots.ReplaceAllString(line, "") == "" {
			continue
		}
		i := slices.IndexFunc(lines, func(candidate string) bool { return sameLine(line, candidate) })
		if i < 0 {
			return fmt.Sprintf("no line is %q", line)
		}
		lines = lines[i+1:]
	}
	return ""
}

// sameLine compares lines but for their spaces. JSON at a line's end is compared as JSON.
func sameLine(shown, printed string) bool {
	beginning, object, _ := strings.Cut(shown, "{")
	if value, _ := nextValue("{" + object); value != nil {
		otherBeginning, other, _ := strings.Cut(printed, "{")
		otherValue, _ := nextValue("{" + other)
		return otherValue != nil && sameLine(beginning, otherBeginning) && valueDiffers("", value, otherValue) == ""
	}
	parts := dots.Split(constant(strings.Join(strings.Fields(shown), " ")), -1)
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile("^" + strings.Join(parts, ".*") + "$").MatchString(constant(strings.Join(strings.Fields(printed), " ")))
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
		if why = valueDiffers("", want, got); why == "" {
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

var (
	// These are measured, or the hour, or as the binary was built.
	anyValue = regexp.MustCompile(`\.(at|exp|iat|ttl|time|version|loop|\w+_[mu]s)$`)
	numbered = regexp.MustCompile(`\.(id|conn|from)$`) // as connections are
	number   = regexp.MustCompile(`^[0-9]+$`)
	epoch    = regexp.MustCompile(`^[0-9a-z]{9,13}$`)
)

// valueDiffers compares values; of what differs from run to run, the kinds.
func valueDiffers(path string, shown, printed any) string {
	switch shown := shown.(type) {
	case map[string]any:
		object, ok := printed.(map[string]any)
		shown, object = constantKeys(shown), constantKeys(object)
		want, got := slices.Sorted(maps.Keys(shown)), slices.Sorted(maps.Keys(object))
		if !ok || !slices.Equal(want, got) {
			return fmt.Sprintf("keys of the object %s: the page has %q, printed was %q", path, want, got)
		}
		for key, value := range shown {
			if why := valueDiffers(path+"."+key, value, object[key]); why != "" {
				return why
			}
		}
	case []any:
		array, ok := printed.([]any)
		if !ok || len(shown) != len(array) {
			return fmt.Sprintf("array %s: the page has %d values, printed was %v", path, len(shown), printed)
		}
		for i, value := range shown {
			if why := valueDiffers(fmt.Sprintf("%s[%d]", path, i), value, array[i]); why != "" {
				return why
			}
		}
	default:
		a, b := fmt.Sprintf("%T", shown), fmt.Sprintf("%T", printed)
		if a == b && !anyValue.MatchString(path) {
			a, b = constant(fmt.Sprint(shown)), constant(fmt.Sprint(printed))
			switch {
			case numbered.MatchString(path):
				a, b = number.ReplaceAllString(a, "NUMBER"), number.ReplaceAllString(b, "NUMBER")
			case strings.HasSuffix(path, ".epoch"):
				a, b = epoch.ReplaceAllString(a, "EPOCH"), epoch.ReplaceAllString(b, "EPOCH")
			}
		}
		if a != b {
			return fmt.Sprintf("%s: the page has %s, printed was %s", path, a, b)
		}
	}
	return ""
}

func constantKeys(object map[string]any) map[string]any {
	constants := map[string]any{}
	for key, value := range object {
		constants[constant(key)] = value
	}
	return constants
}
