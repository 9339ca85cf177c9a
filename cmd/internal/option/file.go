package option

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"sluice/cmd/internal/cli"
)

// fileLayer reads a configuration file: lines of `key = value`, where a # at the start
// or after white space begins a comment. A value in double quotes is a Go string, so
// that it can contain a # too. The layer is nil if the file cannot be read.
func (o *Options) fileLayer(path string) (layer, []error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, []error{fmt.Errorf("--config %s: %w; use a file with lines 'key = value'", path, cli.BareError(err))}
	}
	return o.parseFile(path, string(data))
}

// parseFile is fileLayer for the content of a file.
func (o *Options) parseFile(path, text string) (layer, []error) {
	file, faults := layer{}, []error(nil)
	text = strings.TrimPrefix(text, "\ufeff") // some editors write a byte order mark
	for i, line := range strings.Split(text, "\n") {
		place := fmt.Sprintf("%s:%d", path, i+1)
		fault := func(format string, args ...any) {
			faults = append(faults, fmt.Errorf("%s: %w", place, fmt.Errorf(format, args...)))
		}
		key, word, ok, err := splitSetting(line)
		if key == "" && !ok {
			continue
		}
		opt := o.ByName[key]
		switch {
		case !ok:
			fault("%q is not a setting: write 'key = value'", key)
		case key == "config":
			fault("a configuration file cannot include another: remove the key config")
		case opt == nil:
			names := o.names(func(known *Option) string { return known.Name })
			fault("unknown key %q: %s", key, cli.Advice(key, "", names, "keys are flags without the dashes, see 'sluice serve --help'"))
		case !opt.List && file[key].words != nil:
			fault("%s is already set by %s; keep one of them", key, file[key].source.Place)
		case err != nil:
			fault("%s: %w", key, err)
		default:
			file.add(opt, word, Source{FromFile, place})
		}
	}
	return file, faults
}

var comment = regexp.MustCompile(`(^|\s)#.*`)

// splitSetting splits a line of a file. ok reports whether there is a '='; without one,
// key is the line without its comment.
func splitSetting(line string) (key, word string, ok bool, err error) {
	key, word, ok = strings.Cut(line, "=")
	if bare := comment.ReplaceAllString(key, ""); !ok || bare != key {
		return strings.TrimSpace(comment.ReplaceAllString(line, "")), "", false, nil
	}
	rest := word
	key, word = strings.TrimSpace(key), strings.TrimSpace(word)
	if !strings.HasPrefix(word, `"`) {
		// The '=' keeps a '#' right after it from being at the start.
		return key, strings.TrimSpace(comment.ReplaceAllString("="+rest, "")[1:]), true, nil
	}
	quoted, err := strconv.QuotedPrefix(word)
	if err != nil || strings.TrimSpace(comment.ReplaceAllString(word[len(quoted):], "")) != "" {
		return key, word, true, errors.New("unbalanced quotes; put one at each end of the value, and write \\\" for a quote inside it")
	}
	word, err = strconv.Unquote(quoted)
	return key, word, true, err
}
