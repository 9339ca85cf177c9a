package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"sluice/gateway"
	"sluice/gateway/access/auth"
	"sluice/gateway/access/namespace"
)

// accessFiles are the options for tokens and permissions.
type accessFiles struct {
	secrets    []string
	publicKeys []string
	jwksURL    string
	audience   string
	issuer     string
	namespaces string
	insecure   string // on or off
	clients    string // on or off
}

// access is what these options amount to.
type access struct {
	tokens   auth.Options
	keyed    bool // there are keys that verify tokens
	warnings []string
}

func (s *settings) accessOptions(in adder) {
	a := &s.access
	in.word(&a.clients, "client-protocol", "on", "Centrifugo protocol at /connection/...: on or off", "on", "off")
	in.text(&s.access.namespaces, "namespaces", "FILE", "", "JSON file with history, presence and permissions by channel, in the format of \"channel\" in Centrifugo's configuration. It replaces --history and --history-ttl")
	in.texts(&a.secrets, "token-hmac-secret-file", "FILE", "", "file with the secret that signs tokens (HS256); 'sluice token secret' generates one. Repeatable: accept the old and the new secret during a rotation")
	in.texts(&a.publicKeys, "token-public-key-file", "FILE", "", "PEM file with public keys that verify tokens: RS256, ES256 or EdDSA (repeatable)")
	in.text(&a.jwksURL, "jwks-url", "URL", "", "URL of a key set (JWKS) with public keys that verify tokens")
	in.text(&a.audience, "token-audience", "TEXT", "", "audience (aud) that tokens must have")
	in.text(&a.issuer, "token-issuer", "TEXT", "", "issuer (iss) that tokens must have")
	in.toggle(&a.insecure, "insecure", "allow every client to do everything, and do not verify tokens; for trials on loopback only")
}

// checkAccess reads the options for tokens and permissions and checks them. public are
// the listeners.
func (s *settings) checkAccess(public []endpoint) (a access, faults []error) {
	files, g := &s.access, &s.gateway
	add := func(err error) {
		if err != nil {
			faults = append(faults, err)
		}
	}
	g.NoClients, g.Insecure = files.clients == "off", files.insecure == "on"
	for _, path := range files.secrets {
		secret, warning, err := readHMACSecretFile("token-hmac-secret-file", path)
		add(err)
		if err == nil && slices.ContainsFunc(a.tokens.HMACSecrets, func(other []byte) bool { return bytes.Equal(other, secret) }) {
			a.warnings = append(a.warnings, fmt.Sprintf("--token-hmac-secret-file %s contains the same secret as an earlier file: use a new secret for rotation", path))
		}
		if a.tokens.HMACSecrets = append(a.tokens.HMACSecrets, secret); warning != "" {
			a.warnings = append(a.warnings, warning)
		}
	}
	if err := auth.CheckSecretCount(len(files.secrets)); err != nil {
		add(optionUsage("token-hmac-secret-file", " %s: %w", strings.Join(files.secrets, ","), err))
	}
	for _, path := range files.publicKeys {
		text, err := readPublicKeyFile("token-public-key-file", path)
		add(err)
		if err == nil {
			a.tokens.PublicKeys = append(a.tokens.PublicKeys, text)
		}
	}
	if err := auth.CheckPublicKey(a.tokens.PublicKeys...); err != nil { // each one is valid, so there are too many
		add(optionUsage("token-public-key-file", " %s: %w", strings.Join(files.publicKeys, ","), err))
	}
	if a.tokens.JWKSURL = files.jwksURL; files.jwksURL != "" {
		if err := auth.CheckJWKSURL(files.jwksURL); err != nil {
			add(optionUsage("jwks-url", " %s: %w", redactURL(files.jwksURL), err))
		}
	}
	a.tokens.Audience, a.tokens.Issuer = files.audience, files.issuer
	a.keyed = len(files.secrets) > 0 || len(files.publicKeys) > 0 || files.jwksURL != ""
	if !a.keyed && (files.audience != "" || files.issuer != "") {
		add(optionUsage("token-audience", " and --token-issuer need a key that verifies tokens: use --token-hmac-secret-file, --token-public-key-file or --jwks-url"))
	}
	faults = append(faults, s.checkNamespaces()...)
	if !g.Insecure {
		return a, faults
	}
	for _, e := range public {
		if e.address != "" && !e.local {
			add(optionUsage("insecure", " lets every client do anything, and other machines can reach --%s %s: listen on 127.0.0.1, or configure keys and namespaces instead", e.flag, e.text))
		}
	}
	if len(g.TrustedProxies)+len(g.ProxyProtocol) > 0 {
		add(optionUsage("insecure", " lets every client do anything, and clients on other machines can connect through a proxy: remove --insecure, or --trusted-proxies and --proxy-protocol"))
	}
	return a, faults
}

// checkNamespaces reads the file of --namespaces and returns all of its faults.
func (s *settings) checkNamespaces() (faults []error) {
	path := s.access.namespaces
	if path == "" {
		return nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return []error{optionUsage("namespaces", " %s: %w; use a JSON file", path, bareError(err))}
	}
	if s.gateway.Namespaces, err = namespace.Parse(data); err == nil {
		return nil
	}
	for line := range strings.Lines(err.Error()) {
		faults = append(faults, optionUsage("namespaces", " %s: %s", path, strings.TrimSpace(line)))
	}
	return faults
}

// uselessHistory reports flags for history that --namespaces overrides.
func (s *settings) uselessHistory(opts *options) error {
	if s.access.namespaces == "" {
		return nil
	}
	for _, name := range []string{"history", "history-ttl"} {
		if o := opts.byName[name]; o.source.kind != fromDefault {
			return optionUsage(name, " %s has no effect with --namespaces: remove it, and set history_size and history_ttl in that file", o.text)
		}
	}
	return nil
}

// verifier returns what verifies tokens, or nil without keys. It fetches key sets in the
// background.
func (a *access) verifier(ctx context.Context, log *slog.Logger) (*auth.Verifier, error) {
	if !a.keyed {
		return nil, nil
	}
	opt := a.tokens
	opt.OnError = func(err error) { log.Warn("cannot fetch the key set", "error", err.Error()) }
	return auth.New(ctx, opt)
}

// insecureText is the warning about --insecure.
const insecureText = "--insecure: every client can do anything, and no token is verified; for trials only"

// permissions reports where permissions come from, and what serve would warn about.
func (f *findings) permissions(a access, s *settings) {
	for _, w := range a.warnings {
		f.add(isWarning, "%s", w)
	}
	switch {
	case s.gateway.Insecure:
		f.add(isWarning, "%s", insecureText)
	case a.keyed && s.gateway.Namespaces == nil:
		f.add(isOK, "permissions: from tokens only, without --namespaces; clients can subscribe to the channels that their tokens name")
	case !a.keyed && s.gateway.Namespaces != nil:
		f.add(isOK, "permissions: from --namespaces; every client is anonymous, because no key verifies tokens")
	case a.keyed:
		f.add(isOK, "permissions: from tokens and --namespaces")
	}
}

// rawFor returns what raw clients may do. With auto they may publish if permissions are
// configured, which then decide alone, or if no other machine can reach a listener.
func (s *settings) rawFor(public []endpoint, keyed bool) gateway.Raw {
	switch s.raw {
	case "publish":
		return gateway.RawPublish
	case "listen":
		return gateway.RawListen
	case "off":
		return gateway.RawOff
	}
	if (keyed || s.gateway.Namespaces != nil) && !s.gateway.Insecure {
		return gateway.RawPublish
	}
	if len(s.gateway.TrustedProxies)+len(s.gateway.ProxyProtocol) > 0 {
		return gateway.RawListen // they bring clients from other machines
	}
	for _, e := range public {
		if !e.local {
			return gateway.RawListen
		}
	}
	return gateway.RawPublish
}
