package serve

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/option"
	"sluice/cmd/internal/token"
	"sluice/gateway"
	"sluice/gateway/access/auth"
	"sluice/gateway/access/namespace"
)

// Access is what the options for tokens and permissions amount to.
type Access struct {
	tokens   auth.Options
	rules    []byte // what the file of --namespaces contains
	Keyed    bool   // there are keys that verify tokens
	Warnings []string
}

// checkAccess reads the options for tokens and permissions and checks them. public are
// the listeners.
func (s *Settings) checkAccess(public []Endpoint) (a Access, faults []error) {
	g := &s.Gateway
	add := func(err error) {
		if err != nil {
			faults = append(faults, err)
		}
	}
	g.Insecure = s.Insecure
	for _, path := range s.HMACSecretFiles {
		secret, warning, err := token.ReadSecret("token-hmac-secret-file", path)
		add(err)
		if err == nil && slices.ContainsFunc(a.tokens.HMACSecrets, func(other []byte) bool { return bytes.Equal(other, secret) }) {
			a.Warnings = append(a.Warnings, fmt.Sprintf("--token-hmac-secret-file %s contains the same secret as an earlier file: use a new secret for rotation", path))
		}
		if a.tokens.HMACSecrets = append(a.tokens.HMACSecrets, secret); warning != "" {
			a.Warnings = append(a.Warnings, warning)
		}
	}
	if err := auth.CheckSecretCount(len(s.HMACSecretFiles)); err != nil {
		add(cli.OptionUsage("token-hmac-secret-file", " %s: %w", strings.Join(s.HMACSecretFiles, ","), err))
	}
	for _, path := range s.PublicKeyFiles {
		text, err := token.ReadPublicKey("token-public-key-file", path)
		add(err)
		if err == nil {
			a.tokens.PublicKeys = append(a.tokens.PublicKeys, text)
		}
	}
	if err := auth.CheckPublicKey(a.tokens.PublicKeys...); err != nil { // each one is valid, so there are too many
		add(cli.OptionUsage("token-public-key-file", " %s: %w", strings.Join(s.PublicKeyFiles, ","), err))
	}
	if a.tokens.JWKSURL = s.JWKSURL; s.JWKSURL != "" {
		if err := auth.CheckJWKSURL(s.JWKSURL); err != nil {
			add(cli.OptionUsage("jwks-url", " %s: %w", cli.RedactURL(s.JWKSURL), err))
		}
	}
	a.tokens.Audience, a.tokens.Issuer = s.Audience, s.Issuer
	a.Keyed = len(s.HMACSecretFiles) > 0 || len(s.PublicKeyFiles) > 0 || s.JWKSURL != ""
	if !a.Keyed && (s.Audience != "" || s.Issuer != "") {
		add(cli.OptionUsage("token-audience", " and --token-issuer need a key that verifies tokens: use --token-hmac-secret-file, --token-public-key-file or --jwks-url"))
	}
	rules, more := s.checkNamespaces()
	a.rules, faults = rules, append(faults, more...)
	if !g.Insecure {
		return a, faults
	}
	for _, e := range public {
		if e.Address != "" && !e.local {
			add(cli.OptionUsage("insecure", " lets every client do anything, and other machines can reach --%s %s: listen on 127.0.0.1, or configure keys and namespaces instead", e.Flag, e.Text))
		}
	}
	if len(g.TrustedProxies)+len(g.ProxyProtocol) > 0 {
		add(cli.OptionUsage("insecure", " lets every client do anything, and clients on other machines can connect through a proxy: remove --insecure, or --trusted-proxies and --proxy-protocol"))
	}
	return a, faults
}

// checkNamespaces reads the file of --namespaces, and returns what it contains and all of its faults.
func (s *Settings) checkNamespaces() (data []byte, faults []error) {
	path := s.Namespaces
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, []error{cli.OptionUsage("namespaces", " %s: %w; use a JSON file", path, cli.BareError(err))}
	}
	if s.Gateway.Namespaces, err = namespace.Parse(data); err == nil {
		return data, nil
	}
	for _, line := range cli.Lines(err) {
		faults = append(faults, cli.OptionUsage("namespaces", " %s: %s", path, line))
	}
	return nil, faults
}

// uselessHistory reports flags for history that --namespaces overrides.
func (s *Settings) uselessHistory(opts *option.Options) error {
	if s.Namespaces == "" {
		return nil
	}
	for _, name := range []string{"history", "history-ttl"} {
		if o := opts.ByName[name]; o.Source.Kind != option.FromDefault {
			return cli.OptionUsage(name, " %s has no effect with --namespaces: remove it, and set history_size and history_ttl in that file", o.Text)
		}
	}
	return nil
}

// verifier returns what verifies tokens, or nil without keys. It fetches key sets in the
// background.
func (a *Access) verifier(ctx context.Context, log *slog.Logger) (*auth.Verifier, error) {
	if !a.Keyed {
		return nil, nil
	}
	opt := a.tokens
	opt.OnError = func(err error) { log.Warn("cannot fetch the key set", "error", err.Error()) }
	return auth.New(ctx, opt)
}

// InsecureText is the warning about --insecure.
const InsecureText = "--insecure: every client can do anything, and no token is verified; for trials only"

// rawFor returns what raw clients may do. With auto they may publish if permissions are
// configured, which then decide alone, or if no other machine can reach a listener.
func (s *Settings) rawFor(public []Endpoint, keyed bool) gateway.Raw {
	if s.Gateway.Raw != gateway.RawDefault {
		return s.Gateway.Raw
	}
	if (keyed || s.Gateway.Namespaces != nil) && !s.Gateway.Insecure {
		return gateway.RawPublish
	}
	if len(s.Gateway.TrustedProxies)+len(s.Gateway.ProxyProtocol) > 0 {
		return gateway.RawListen // they bring clients from other machines
	}
	for _, e := range public {
		if !e.local {
			return gateway.RawListen
		}
	}
	return gateway.RawPublish
}

// rawText returns what raw clients may do, or what decides about it.
func rawText(g gateway.Config) string {
	var by []string
	if g.Tokens != nil {
		by = append(by, "keys")
	}
	if g.Hooks != nil && (g.Hooks.Connect != nil || len(g.Hooks.Subscribe) > 0) {
		by = append(by, "hooks")
	}
	if g.Namespaces != nil {
		by = append(by, "namespaces")
	}
	if g.Raw != gateway.RawPublish || g.Insecure || by == nil {
		return g.Raw.String()
	}
	return "by " + strings.Join(by, " and ")
}
