package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// Every option of `serve` is a flag, an environment variable and a key in the
// configuration file. The three are layers: each holds, for some of the options,
// the words that were given there and the place. resolve takes each option from
// the first layer that has it (flag, environment, file, default) and parses it
// only then, with the same parser for every source. A value that is overridden is
// therefore never parsed.
//
// Repeatable options accept a comma list in every layer, and may be repeated as a
// flag and as a key. A layer replaces the list of the layer below it.

const envPrefix = "SLUICE_"

// sourceKind is the layer that a value came from.
type sourceKind int

const (
	fromDefault sourceKind = iota
	fromFile
	fromEnv
	fromFlag
)

func (k sourceKind) String() string {
	return [...]string{"default", "file", "environment", "flag"}[k]
}

// source is where a value came from.
type source struct {
	kind  sourceKind
	place string // "--listen", "SLUICE_LISTEN", "/etc/sluice.conf:3"; empty for a default
}

// option is one setting of `serve`.
type option struct {
	name, group, meta, usage string
	fallback                 string             // the default, as a user would write it; empty: unset
	repeatable               bool               // takes several values
	choices                  []string           // words for shell completion, beside the default; "" is none
	bare                     string             // what the flag without a value means; empty: it needs a value
	parse                    func(string) error // stores a value, or appends it if repeatable
	target                   any                // pointer to where parse stores values

	// Set by resolve.
	text   string // the effective value, as a user would write it, but without a URL's password
	source source
}

// env returns the option's environment variable.
func (o *option) env() string { return envName(o.name) }

// envName returns the environment variable of a flag.
func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// options are all settings of a command, in the order of its help.
type options struct {
	list   []*option
	byName map[string]*option
	fields map[string]*option // by the field of gateway.Config that they set
	flags  layer              // filled while the command line is parsed

	// foreign are variables with our prefix that belong to other commands: one
	// environment may serve several commands.
	foreign map[string]bool
}

// given is an option's words in one layer.
type given struct {
	words  []string
	source source
}

type layer map[string]given

func (l layer) add(o *option, word string, src source) {
	g := l[o.name]
	g.words = append(g.words, word)
	g.source = src
	l[o.name] = g
}

// flagValue adds an option's words to the flag layer as pflag finds them.
type flagValue struct {
	opts *options
	opt  *option
}

func (v flagValue) String() string { return v.opt.fallback }
func (v flagValue) Type() string   { return v.opt.meta }
func (v flagValue) Set(word string) error {
	v.opts.flags.add(v.opt, word, source{fromFlag, "--" + v.opt.name})
	return nil
}

// register makes options flags of a command: the named ones, or all.
func (o *options) register(cmd *cobra.Command, names ...string) {
	for _, opt := range o.list {
		if len(names) > 0 && !slices.Contains(names, opt.name) {
			continue
		}
		cmd.Flags().VarPF(flagValue{o, opt}, opt.name, "", opt.usage).NoOptDefVal = opt.bare
		if words := opt.completions(); words != nil {
			// Fails only for a flag that does not exist or has words already.
			_ = cmd.RegisterFlagCompletionFunc(opt.name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
		}
	}
}

// completions returns the words that a shell offers.
func (o *option) completions() []string {
	var words []string
	for _, word := range append([]string{o.fallback}, o.choices...) {
		if word != "" && !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	return words
}

// resolve settles every option from the layers. It reports every fault at once.
func (o *options) resolve(environ []string) error {
	env, faults := o.envLayer(environ)
	if err := o.settle(o.byName["config"], o.flags, env); err != nil {
		return errors.Join(append(faults, err)...)
	}
	var file layer
	if path := o.byName["config"].text; path != "" {
		var more []error
		file, more = o.fileLayer(path)
		faults = append(faults, more...)
	}
	for _, opt := range o.list {
		if err := o.settle(opt, o.flags, env, file); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// settle parses an option from the first layer that has it.
func (o *options) settle(opt *option, layers ...layer) error {
	var g given
	for _, l := range layers {
		if found, ok := l[opt.name]; ok {
			g = found
			break
		}
	}
	if g.words == nil {
		if opt.fallback == "" {
			return nil
		}
		g.words = []string{opt.fallback}
	}
	words := g.words
	if opt.repeatable {
		words = strings.Split(strings.Join(words, ","), ",")
	} else {
		words = words[len(words)-1:] // if a flag is given twice, the last one counts
	}
	for i, word := range words {
		words[i] = strings.TrimSpace(word)
		err := errEmpty
		if words[i] != "" {
			err = opt.parse(words[i])
		}
		if err != nil {
			return fmt.Errorf("%s: %w", describe(opt, words[i], g.source), err)
		}
	}
	opt.text, opt.source = strings.Join(words, ","), g.source
	if opt.meta == "URL" {
		opt.text = redactURL(opt.text)
	}
	return nil
}

// passwordInURL matches up to the last @, because this URL could not be parsed.
var passwordInURL = regexp.MustCompile(`^([^:]*://[^:@]*):.*@`)

// redactURL replaces the password in a URL, even in a malformed one, for output.
func redactURL(text string) string {
	if u, err := url.Parse(text); err != nil {
		return passwordInURL.ReplaceAllString(text, "$1:xxxxx@")
	} else if _, has := u.User.Password(); has {
		return u.Redacted()
	}
	return text
}

var errEmpty = errors.New("the value is empty; specify a value or omit the option")

// describe names an option's value as it was given.
func describe(opt *option, word string, src source) string {
	switch src.kind {
	case fromEnv:
		return fmt.Sprintf("%s=%s", src.place, word)
	case fromFile:
		return fmt.Sprintf("%s: %s = %s", src.place, opt.name, word)
	}
	return fmt.Sprintf("--%s %s", opt.name, word)
}

// An optionFault is an error about one option. Its text begins with the flag.
type optionFault struct {
	option string
	error
}

func (f optionFault) Unwrap() error { return f.error }

// optionError returns an error about an option: the format continues the flag.
func optionError(option, format string, args ...any) error {
	return optionFault{option, fmt.Errorf("--%s%w", option, fmt.Errorf(format, args...))}
}

// optionUsage is optionError for a usage error.
func optionUsage(option, format string, args ...any) error {
	return usageError{optionError(option, format, args...)}
}

// explain adds to an error about an option where the value came from, if it did not come
// from a flag. A usage error stays a usage error.
func (o *options) explain(err error) error {
	var about optionFault
	if !errors.As(err, &about) {
		return err
	}
	opt := o.byName[about.option]
	if opt == nil || opt.source.kind != fromEnv && opt.source.kind != fromFile {
		return err
	}
	return fmt.Errorf("%w (set by %s)", err, opt.source.place)
}

// explainAll returns an error for the gateway's faults, each with the source of its value.
func (o *options) explainAll(err error) error {
	var told []error
	for _, f := range o.faultsOf(err) {
		told = append(told, o.explain(f))
	}
	return errors.Join(told...)
}

// serviceLink matches the variables that Kubernetes and Docker set for a service
// called sluice (or sluice-something): SLUICE_SERVICE_HOST, SLUICE_PORT_80_TCP_ADDR.
// They are not ours and not the operator's mistake.
var serviceLink = regexp.MustCompile(`^SLUICE_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)=|^SLUICE_(\w+_)?PORT=(tcp|udp|sctp)://`)

// envLayer reads the environment. An empty variable counts as unset.
func (o *options) envLayer(environ []string) (layer, []error) {
	env, faults := layer{}, []error(nil)
	for _, entry := range environ {
		name, word, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, envPrefix) || serviceLink.MatchString(entry) || o.foreign[name] || word == "" {
			continue
		}
		i := slices.IndexFunc(o.list, func(opt *option) bool { return opt.env() == name })
		if i < 0 {
			var names []string
			for _, opt := range o.list {
				names = append(names, opt.env())
			}
			faults = append(faults, fmt.Errorf("unknown variable %s: %s", name,
				advice(name, "", names, "unset it, or see 'sluice serve --help'")))
			continue
		}
		env.add(o.list[i], word, source{fromEnv, name})
	}
	return env, faults
}

// lookUp settles only the named options, for commands that need a gateway's address
// but not all of its settings to be valid.
func (o *options) lookUp(environ []string, names ...string) error {
	env, _ := o.envLayer(environ) // ignored: faults of other variables
	if err := o.settle(o.byName["config"], o.flags, env); err != nil {
		return err
	}
	var file layer
	if path := o.byName["config"].text; path != "" {
		var faults []error
		if file, faults = o.fileLayer(path); file == nil {
			return errors.Join(faults...)
		}
	}
	var faults []error
	for _, name := range names {
		faults = append(faults, o.settle(o.byName[name], o.flags, env, file))
	}
	return errors.Join(faults...)
}

// fileLayer reads a configuration file: lines of `key = value`, where a # at the start
// or after white space begins a comment. A value in double quotes is a Go string, so
// that it can contain a # too. The layer is nil if the file cannot be read.
func (o *options) fileLayer(path string) (layer, []error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, []error{fmt.Errorf("--config %s: %w; use a file with lines 'key = value'", path, bareError(err))}
	}
	return o.parseFile(path, string(data))
}

// parseFile is fileLayer for the content of a file.
func (o *options) parseFile(path, text string) (layer, []error) {
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
		opt := o.byName[key]
		switch {
		case !ok:
			fault("%q is not a setting: write 'key = value'", key)
		case key == "config":
			fault("a configuration file cannot include another: remove the key config")
		case opt == nil:
			var names []string
			for _, known := range o.list {
				names = append(names, known.name)
			}
			fault("unknown key %q: %s", key, advice(key, "", names, "keys are flags without the dashes, see 'sluice serve --help'"))
		case !opt.repeatable && file[key].words != nil:
			fault("%s is already set by %s; keep one of them", key, file[key].source.place)
		case err != nil:
			fault("%s: %w", key, err)
		default:
			file.add(opt, word, source{fromFile, place})
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
