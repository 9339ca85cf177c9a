package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"time"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/option"
	"sluice/gateway"
	"sluice/gateway/access/auth"
	"sluice/gateway/hook/config"
)

// reloadable is what the tag reload says of settings that a reload applies.
const reloadable = "on SIGHUP"

// A reload makes the configuration anew, as a start does: from the same command line and environment, and from the
// files as they are now. All of it is checked, and then the gateway replaces its own completely, or nothing happens
// (gateway.Server.Reload). What is unchanged is kept, so that the state behind it lives on: hooks have queues and
// circuit breakers, and a verifier has fetched key sets.

// configured is a configuration with what was made of it.
type configured struct {
	opts     *option.Options
	cfg      *Settings
	plan     Plan
	verifier *auth.Verifier // nil without keys
	hooks    *config.Set    // nil without hooks
}

// same reports whether options have the values that they have in c; nil has none.
func (c *configured) same(opts *option.Options, names ...string) bool {
	if c == nil {
		return false
	}
	for _, name := range names {
		if !opts.ByName[name].Same(c.opts.ByName[name]) {
			return false
		}
	}
	return true
}

// close ends what is behind the configuration, except what next goes on with.
func (c *configured) close(next *configured) {
	if c.hooks != nil && (next == nil || next.hooks != c.hooks) {
		c.hooks.Close()
	}
	if c.verifier != nil && (next == nil || next.verifier != c.verifier) {
		c.verifier.Close()
	}
}

// build makes what verifies tokens, and the hooks, unless those of before are the same; nil for none.
func (c *configured) build(ctx context.Context, before *configured, log *slog.Logger) (err error) {
	g := &c.cfg.Gateway
	if before != nil && reflect.DeepEqual(c.plan.Access.tokens, before.plan.Access.tokens) {
		c.verifier = before.verifier
	} else if c.verifier, err = c.plan.Access.verifier(ctx, log); err != nil {
		return c.opts.Explain(err)
	}
	g.Tokens = c.verifier
	if before != nil && c.plan.Hooks.same(&before.plan.Hooks) {
		c.hooks = before.hooks
	} else if c.hooks, err = c.plan.Hooks.Build(); err != nil {
		return err
	}
	if c.hooks != nil {
		g.Hooks = c.hooks.Hooks
	}
	if before != nil && string(c.plan.Access.rules) == string(before.plan.Access.rules) {
		g.Namespaces = before.cfg.Gateway.Namespaces
	}
	return nil
}

// A ReloadReport says what a reload has changed.
type ReloadReport struct {
	Changed      []Changed     `json:"changed"`
	Unsubscribed int           `json:"unsubscribed"`
	Disconnected int           `json:"disconnected"`
	Took         time.Duration `json:"took_ns"`
}

// Changed is a setting that a reload has changed.
type Changed struct {
	Name    string  `json:"name"`
	Old     *string `json:"old"` // null: not set
	New     *string `json:"new"`
	Content bool    `json:"content,omitempty"` // of the file, or something that is not shown
	Place   string  `json:"place,omitempty"`   // file:line of the new value
}

// String returns the change as a line of a log has it.
func (c Changed) String() string {
	if c.Content {
		return c.Name + ": content"
	}
	show := func(value *string) string {
		if value == nil {
			return "not set"
		}
		return *value
	}
	return fmt.Sprintf("%s: %s -> %s", c.Name, show(c.Old), show(c.New))
}

// changes returns what differs between two configurations, and those options that need a restart.
func (c *configured) changes(before *configured) (list []Changed, restart []option.Change) {
	add := func(was, is *option.Option, content bool) {
		x := Changed{Name: is.Name, Content: content || was.Text == is.Text, Place: is.Source.Place}
		if was.Text != "" {
			x.Old = &was.Text
		}
		if is.Text != "" {
			x.New = &is.Text
		}
		list = append(list, x)
		if is.Reload != reloadable {
			restart = append(restart, option.Change{Before: was, After: is})
		}
	}
	contents := map[string]bool{
		"api-key-file":           c.plan.apiKey != before.plan.apiKey,
		"namespaces":             string(c.plan.Access.rules) != string(before.plan.Access.rules),
		"token-hmac-secret-file": !reflect.DeepEqual(c.plan.Access.tokens.HMACSecrets, before.plan.Access.tokens.HMACSecrets),
		"token-public-key-file":  !reflect.DeepEqual(c.plan.Access.tokens.PublicKeys, before.plan.Access.tokens.PublicKeys),
		"webhook-secret-file":    c.cfg.webhookSecrets() != before.cfg.webhookSecrets(),
		"hooks":                  !reflect.DeepEqual(c.plan.Hooks.sources.files, before.plan.Hooks.sources.files),
	}
	for i, is := range c.opts.List {
		was := before.opts.List[i]
		switch {
		case !is.Same(was):
			add(was, is, false)
		case contents[is.Name]:
			add(was, is, true)
		case is.Name == "raw" && c.cfg.Gateway.Raw != before.cfg.Gateway.Raw: // what auto stands for
			old, now := before.cfg.Gateway.Raw.String(), c.cfg.Gateway.Raw.String()
			list = append(list, Changed{Name: is.Name, Old: &old, New: &now})
		}
	}
	return list, restart
}

// restartText returns how to apply changes that a reload does not apply.
const restartText = "needs a restart; 'sluice upgrade' applies it without closing connections"

// restartNeeded is the error for changes that a reload does not apply: a line for each.
type restartNeeded struct {
	*gateway.NeedsRestart
	lines []string
}

func (e *restartNeeded) Error() string { return strings.Join(e.lines, "\n") }
func (e *restartNeeded) Unwrap() error { return e.NeedsRestart }

// needRestart returns the error for options that need a restart; nil for none.
func needRestart(changes []option.Change) error {
	if len(changes) == 0 {
		return nil
	}
	e := &restartNeeded{NeedsRestart: new(gateway.NeedsRestart)}
	for _, x := range changes {
		e.Fields = append(e.Fields, x.After.Field)
		e.lines = append(e.lines, x.String()+": "+restartText)
	}
	return e
}

// renew replaces the configuration. The caller holds changing.
func (s *service) renew(ctx context.Context, how gateway.ReloadOptions) (*ReloadReport, error) {
	began := time.Now()
	before := s.current.Load()
	next, changed, err := s.prepare(ctx, before)
	if err != nil {
		s.server.ReloadFailed(err)
		return nil, err
	}
	r, err := s.server.Reload(next.cfg.Gateway, how)
	if err != nil {
		next.close(before)
		return nil, next.explain(err)
	}
	s.current.Store(next)
	s.level.Set(levels[next.cfg.LogLevel])
	if next.plan.apiKey != before.plan.apiKey {
		s.server.SetAPIKey(next.plan.apiKey)
	}
	s.retiring.Go(func() { before.retire(s.retire, next) })
	for _, w := range next.warnings() {
		if !slices.Contains(before.warnings(), w) {
			s.log.Warn(w)
		}
	}
	return &ReloadReport{Changed: append([]Changed{}, changed...), Unsubscribed: r.Unsubscribed, Disconnected: r.Disconnected, Took: time.Since(began)}, nil
}

// prepare makes the next configuration, and returns what it changes, or all that is wrong with it.
func (s *service) prepare(ctx context.Context, before *configured) (*configured, []Changed, error) {
	next := &configured{cfg: new(Settings)}
	next.opts = before.opts.Renew(next.cfg)
	s.attempt.Store(next) // whose files are looked at, if it fails
	if err := next.opts.Resolve(s.env); err != nil {
		return nil, nil, err
	}
	g, was := &next.cfg.Gateway, &before.cfg.Gateway
	g.Logger, g.Version, g.Commit, g.PublishURL = was.Logger, was.Version, was.Commit, was.PublishURL
	g.CertificateExpiry, g.Visitors, g.Inherited = was.CertificateExpiry, was.Visitors, was.Inherited
	var err error
	next.plan, err = next.cfg.plan(next.opts, before)
	changed, restart := next.changes(before)
	if err != nil {
		return nil, nil, errors.Join(err, needRestart(restart))
	}
	if err := needRestart(restart); err != nil {
		return nil, nil, err
	}
	if err := next.build(ctx, before, s.log); err != nil {
		next.close(before)
		return nil, nil, err
	}
	return next, changed, nil
}

// explain returns an error of the gateway about settings with the names that their users know.
func (c *configured) explain(err error) error {
	var restart *gateway.NeedsRestart
	if !errors.As(err, &restart) {
		return c.opts.ExplainAll(err)
	}
	e := &restartNeeded{NeedsRestart: restart}
	for _, field := range restart.Fields {
		e.lines = append(e.lines, c.opts.FlagOf(field)+": "+restartText)
	}
	return e
}

// warnings returns what is doubtful in the configuration.
func (c *configured) warnings() []string {
	return slices.Concat(c.plan.Access.Warnings, c.plan.Hooks.Warnings, c.plan.Warnings)
}

// Bounds of how long a configuration is kept that is not in use any more: calls of its hooks may be under way, and
// tokens are being verified.
const (
	retireLeast = 30 * time.Second
	retireMost  = 3 * time.Minute
	retireLook  = time.Second
)

// retire closes what is behind the configuration, except what next goes on with, when it is not in use any more.
func (c *configured) retire(ctx context.Context, next *configured) {
	if c.hooks == next.hooks && c.verifier == next.verifier {
		return
	}
	defer c.close(next)
	look := time.NewTicker(retireLook)
	defer look.Stop()
	for began := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case now := <-look.C:
			if age := now.Sub(began); age >= retireMost || age >= retireLeast && !c.busy() {
				return
			}
		}
	}
}

// busy reports whether hooks are being called.
func (c *configured) busy() bool {
	if c.hooks == nil {
		return false
	}
	for _, x := range c.hooks.Stats() {
		if x.Calls.InFlight+x.Calls.Queued > 0 {
			return true
		}
	}
	return false
}

// reload reloads certificates and replaces the configuration, completely or not at all, and logs the result.
func (s *service) reload(ctx context.Context, how gateway.ReloadOptions) (report *ReloadReport, err error) {
	s.supervisor.reloading("reloading")
	defer s.supervisor.reloaded()
	s.secure.reload(s.log)
	s.changing.Lock()
	defer s.changing.Unlock()
	switch {
	case s.upgrades > 0:
		return nil, gateway.ErrUpgradeRunning
	case s.hasMoved() || s.server.Draining():
		return nil, gateway.ErrUpgradeStopping
	}
	files, began := s.look(), time.Now()
	defer func() { s.noteFiles(files, began) }()
	if report, err = s.renew(ctx, how); err != nil {
		s.log.Error("configuration not reloaded: the current one stays in use", "faults", cli.Lines(err))
		return nil, err
	}
	var changed []string
	for _, x := range report.Changed {
		changed = append(changed, x.String())
	}
	s.log.Info("configuration reloaded", "changed", changed, "unsubscribed", report.Unsubscribed, "disconnected", report.Disconnected, "took", report.Took.String())
	return report, nil
}

// reloadOnSignal reloads on each SIGHUP, until ctx ends. A service manager that has sent it waits for both
// notifications, whatever the result.
func (s *service) reloadOnSignal(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.hangup:
		}
		if _, err := s.reload(context.WithoutCancel(ctx), gateway.ReloadOptions{}); errors.Is(err, gateway.ErrUpgradeRunning) || errors.Is(err, gateway.ErrUpgradeStopping) {
			s.log.Warn("SIGHUP: nothing is reloaded", "because", err.Error())
		}
	}
}
