package option

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sluice/cmd/internal/cli"
	"sluice/gateway/setting"
)

// Every option of `serve` is a flag, an environment variable and a key in the
// configuration file. The three are layers: each holds, for some of the options,
// the words that were given there and the place. Resolve takes each option from
// the first layer that has it (flag, environment, file, default) and parses it
// only then, with the same parser for every source. A value that is overridden is
// therefore never parsed.
//
// Repeatable options accept a comma list in every layer, and may be repeated as a
// flag and as a key. A layer replaces the list of the layer below it.

// SourceKind is the layer that a value came from.
type SourceKind int

const (
	FromDefault SourceKind = iota
	FromFile
	FromEnv
	FromFlag
)

func (k SourceKind) String() string {
	return [...]string{"default", "file", "environment", "flag"}[k]
}

// Source is where a value came from.
type Source struct {
	Kind  SourceKind
	Place string // "--listen", "SLUICE_LISTEN", "/etc/sluice.conf:3"; empty for a default
}

// Option is one setting of a command.
type Option struct {
	setting.Row

	// Set by Resolve.
	Text   string // the effective value, as a user would write it, but without a URL's password
	Source Source
	value  any // what was stored
}

// Env returns the option's environment variable.
func (o *Option) Env() string { return cli.EnvName(o.Name) }

// Options are all settings of a command, in the order of its help.
type Options struct {
	List   []*Option
	ByName map[string]*Option
	fields map[string]*Option
	flags  layer // filled while the command line is parsed

	// foreign are variables with our prefix that belong to other commands: one
	// environment may serve several commands.
	foreign map[string]bool
}

// New returns the options of the struct that settings points to ([setting.Rows]).
func New(settings any) *Options {
	o := &Options{ByName: map[string]*Option{}, fields: map[string]*Option{}, flags: layer{}, foreign: map[string]bool{}}
	for _, row := range setting.Rows(settings) {
		opt := &Option{Row: row}
		o.List = append(o.List, opt)
		o.ByName[row.Name], o.fields[row.Field] = opt, opt
	}
	for _, opt := range o.List {
		names := setting.Names(o.FlagOf)
		opt.Help, opt.Off = names.Text(opt.Help), names.Text(opt.Off)
	}
	return o
}

// given is an option's words in one layer.
type given struct {
	words  []string
	source Source
}

type layer map[string]given

func (l layer) add(o *Option, word string, src Source) {
	g := l[o.Name]
	g.words = append(g.words, word)
	g.source = src
	l[o.Name] = g
}

// flagValue adds an option's words to the flag layer as pflag finds them.
type flagValue struct {
	opts *Options
	opt  *Option
}

func (v flagValue) String() string { return v.opt.Default }
func (v flagValue) Type() string   { return v.opt.Meta }
func (v flagValue) Set(word string) error {
	v.opts.flags.add(v.opt, word, Source{FromFlag, "--" + v.opt.Name})
	return nil
}

// Register makes options flags of a command: the named ones, or all.
func (o *Options) Register(cmd *cobra.Command, names ...string) {
	for _, opt := range o.List {
		if len(names) > 0 && !slices.Contains(names, opt.Name) {
			continue
		}
		f := cmd.Flags().VarPF(flagValue{o, opt}, opt.Name, "", opt.Help)
		if opt.Meta == "" {
			f.NoOptDefVal = "on"
		}
		cli.SetEnv(f, opt.Env())
		if words := opt.completions(); words != nil {
			// Fails only for a flag that does not exist or has words already.
			_ = cmd.RegisterFlagCompletionFunc(opt.Name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
		}
	}
}

// completions returns the words that a shell offers.
func (o *Option) completions() (words []string) {
	offered := append([]string{o.Default}, o.Words...)
	if o.Off != "" {
		offered = append(offered, "off")
	}
	for _, word := range offered {
		if word != "" && !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	return words
}

// Resolve settles every option from the layers. It reports every fault at once.
func (o *Options) Resolve(environ []string) error {
	env, faults := o.envLayer(environ)
	file, more, err := o.configLayer(env)
	if faults = append(faults, more...); err != nil {
		return errors.Join(append(faults, err)...)
	}
	for _, opt := range o.List {
		faults = append(faults, o.settle(opt, o.flags, env, file))
		opt.value = opt.Value()
	}
	return errors.Join(faults...)
}

// configLayer returns the layer of the file that --config names, if any, and the faults in it.
func (o *Options) configLayer(env layer) (file layer, faults []error, err error) {
	if err = o.settle(o.ByName["config"], o.flags, env); err == nil && o.ByName["config"].Text != "" {
		file, faults = o.fileLayer(o.ByName["config"].Text)
	}
	return file, faults, err
}

// settle parses an option from the first layer that has it.
func (o *Options) settle(opt *Option, layers ...layer) error {
	var g given
	for _, l := range layers {
		if found, ok := l[opt.Name]; ok {
			g = found
			break
		}
	}
	if g.words == nil {
		if opt.Default == "" {
			return nil
		}
		g.words = []string{opt.Default}
	}
	words := slices.Clone(g.words) // a layer can be resolved again
	if opt.List {
		words = strings.Split(strings.Join(words, ","), ",")
	} else {
		words = words[len(words)-1:] // if a flag is given twice, the last one counts
	}
	for i, word := range words {
		words[i] = strings.TrimSpace(word)
		err := errEmpty
		if words[i] != "" {
			err = opt.Set(words[i])
		}
		if err != nil {
			return fmt.Errorf("%s: %w", describe(opt, shown(opt, words[i]), g.source), err)
		}
	}
	for i, word := range words {
		words[i] = shown(opt, word)
	}
	opt.Text, opt.Source = strings.Join(words, ","), g.source
	return nil
}

// shown returns a value as it may be printed: a URL without its password.
func shown(opt *Option, word string) string {
	if opt.Meta == "URL" || strings.HasSuffix(opt.Name, "-url") {
		return cli.RedactURL(word)
	}
	return word
}

var errEmpty = errors.New("the value is empty; specify a value or omit the option")

// describe names an option's value as it was given.
func describe(opt *Option, word string, src Source) string {
	switch src.Kind {
	case FromEnv:
		return fmt.Sprintf("%s=%s", src.Place, word)
	case FromFile:
		return fmt.Sprintf("%s: %s = %s", src.Place, opt.Name, word)
	}
	if word == "" {
		word = "''" // as a shell has it
	}
	return fmt.Sprintf("--%s %s", opt.Name, word)
}

// Explain adds to an error about an option where the value came from, if it did not come
// from a flag. A usage error stays a usage error.
func (o *Options) Explain(err error) error {
	var about cli.OptionFault
	if !errors.As(err, &about) {
		return err
	}
	opt := o.ByName[about.Option]
	if opt == nil || opt.Source.Kind != FromEnv && opt.Source.Kind != FromFile {
		return err
	}
	return fmt.Errorf("%w (set by %s)", err, opt.Source.Place)
}

// ExplainAll returns an error for the gateway's faults, each with the source of its value.
func (o *Options) ExplainAll(err error) error {
	var told []error
	for _, f := range o.FaultsOf(err) {
		told = append(told, o.Explain(f))
	}
	return errors.Join(told...)
}

// Ignore keeps the environment variables of other commands from being reported as
// unknown.
func (o *Options) Ignore(variables []string) {
	for _, name := range variables {
		o.foreign[name] = true
	}
}

// serviceLink matches the variables that Kubernetes and Docker set for a service
// called sluice (or sluice-something): SLUICE_SERVICE_HOST, SLUICE_PORT_80_TCP_ADDR.
// They are not ours and not the operator's mistake.
var serviceLink = regexp.MustCompile(`^SLUICE_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)=|^SLUICE_(\w+_)?PORT=(tcp|udp|sctp)://`)

// envLayer reads the environment. An empty variable counts as unset.
func (o *Options) envLayer(environ []string) (layer, []error) {
	env, faults := layer{}, []error(nil)
	for _, entry := range environ {
		name, word, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, cli.EnvPrefix) || serviceLink.MatchString(entry) || word == "" {
			continue
		}
		i := slices.IndexFunc(o.List, func(opt *Option) bool { return opt.Env() == name })
		if i < 0 && o.foreign[name] {
			continue
		}
		if i < 0 {
			faults = append(faults, fmt.Errorf("unknown variable %s: %s", name,
				cli.Advice(name, "", o.names((*Option).Env), "unset it, or see 'sluice serve --help'")))
			continue
		}
		env.add(o.List[i], word, Source{FromEnv, name})
	}
	return env, faults
}

// names returns what each option is called.
func (o *Options) names(of func(*Option) string) (names []string) {
	for _, opt := range o.List {
		names = append(names, of(opt))
	}
	return names
}

// LookUp settles only the named options, for commands that need a gateway's address
// but not all of its settings to be valid.
func (o *Options) LookUp(environ []string, names ...string) error {
	env, _ := o.envLayer(environ) // ignored: faults of other variables
	file, faults, err := o.configLayer(env)
	if err != nil {
		return err
	}
	if file != nil {
		faults = nil // of other keys
	}
	for _, name := range names {
		faults = append(faults, o.settle(o.ByName[name], o.flags, env, file))
	}
	return errors.Join(faults...)
}

// FlagOf returns what a field of the settings is called on the command line.
func (o *Options) FlagOf(field string) string {
	opt := o.fields[field]
	switch {
	case opt == nil:
		return field
	case opt.Default == "on": // a field such as NoPage
		return "--" + opt.Name + "=off"
	}
	return "--" + opt.Name
}

// FaultsOf returns the faults of settings as errors about options. Any other error becomes
// one about no option, in which settings have the names of their flags.
func (o *Options) FaultsOf(err error) (told []cli.OptionFault) {
	var faults setting.Faults
	switch {
	case err == nil:
		return nil
	case errors.As(err, &faults):
	case errors.As(err, new(setting.Error)):
		return []cli.OptionFault{{Err: errors.New(setting.Names(o.FlagOf).ErrorText(err))}}
	default:
		return []cli.OptionFault{{Err: err}}
	}
	for _, f := range faults {
		name := ""
		if opt := o.fields[f.Field]; opt != nil {
			name = opt.Name
		}
		told = append(told, cli.OptionFault{Option: name, Err: errors.New(f.Text(o.FlagOf))})
	}
	return told
}
