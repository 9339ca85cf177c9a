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
	"sluice/gateway/auth"
	"sluice/gateway/namespace"
)

// accessFiles are the options that say what clients may do.
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

// access is what they come to.
type access struct {
	tokens   auth.Options
	keyed    bool // there are keys
	warnings []string
}

func (s *settings) accessOptions(in adder) {
	a := &s.access
	in.word(&a.clients, "client-protocol", "on", "Centrifugo's client protocol at /connection/...", "on", "off")
	in.text(&s.access.namespaces, "namespaces", "FILE", "", "JSON: history, presence and rights by channel, as the object\n\"channel\" of Centrifugo's configuration; with it --history and\n--history-ttl do not count")
	in.texts(&a.secrets, "token-hmac-secret-file", "FILE", "", "the secret that tokens are signed with (HS256); see\n'sluice token secret'; repeatable: give the old and the new one\nwhile a secret is replaced")
	in.texts(&a.publicKeys, "token-public-key-file", "FILE", "", "public keys, PEM, of tokens' signatures: RS256, ES256, EdDSA;\nrepeatable")
	in.text(&a.jwksURL, "jwks-url", "URL", "", "where such keys are fetched as a key set (JWKS)")
	in.text(&a.audience, "token-audience", "TEXT", "", "what tokens must have as aud")
	in.text(&a.issuer, "token-issuer", "TEXT", "", "what they must have as iss")
	in.toggle(&a.insecure, "insecure", "for trials on loopback: everybody may do everything, and no\ntoken is looked at")
}

// checkAccess reads and checks what clients may do. public are the listeners.
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
			a.warnings = append(a.warnings, fmt.Sprintf("--token-hmac-secret-file %s: the secret is the same as one before it: to replace a secret, the new one has to be another", path))
		}
		if a.tokens.HMACSecrets = append(a.tokens.HMACSecrets, secret); warning != "" {
			a.warnings = append(a.warnings, warning)
		}
	}
	if err := auth.CheckSecretCount(len(files.secrets)); err != nil {
		add(usagef("--token-hmac-secret-file %s: %w", strings.Join(files.secrets, ","), err))
	}
	for _, path := range files.publicKeys {
		text, err := readPublicKeyFile("token-public-key-file", path)
		add(err)
		if err == nil {
			a.tokens.PublicKeys = append(a.tokens.PublicKeys, text)
		}
	}
	if err := auth.CheckPublicKey(a.tokens.PublicKeys...); err != nil { // each is right, so it is their number
		add(usagef("--token-public-key-file %s: %w", strings.Join(files.publicKeys, ","), err))
	}
	if a.tokens.JWKSURL = files.jwksURL; files.jwksURL != "" {
		if err := auth.CheckJWKSURL(files.jwksURL); err != nil {
			add(usagef("--jwks-url %s: %w", files.jwksURL, err))
		}
	}
	a.tokens.Audience, a.tokens.Issuer = files.audience, files.issuer
	a.keyed = len(files.secrets) > 0 || len(files.publicKeys) > 0 || files.jwksURL != ""
	if !a.keyed && (files.audience != "" || files.issuer != "") {
		add(usagef("--token-audience and --token-issuer are of tokens, and there is no key for them: give --token-hmac-secret-file, --token-public-key-file or --jwks-url"))
	}
	faults = append(faults, s.checkNamespaces()...)
	if !g.Insecure {
		return a, faults
	}
	for _, e := range public {
		if e.address != "" && !e.local {
			add(usagef("--insecure lets everybody do everything, and others can reach --%s %s: listen on 127.0.0.1, or configure keys and namespaces", e.flag, e.text))
		}
	}
	if len(g.TrustedProxies)+len(g.ProxyProtocol) > 0 {
		add(usagef("--insecure lets everybody do everything, and a proxy brings clients from elsewhere: leave one of them out"))
	}
	return a, faults
}

// checkNamespaces reads the file of --namespaces, and gives each of its faults.
func (s *settings) checkNamespaces() (faults []error) {
	path := s.access.namespaces
	if path == "" {
		return nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return []error{usagef("--namespaces %s: %w: give a JSON file", path, bareError(err))}
	}
	if s.gateway.Namespaces, err = namespace.Parse(data); err == nil {
		return nil
	}
	for line := range strings.Lines(err.Error()) {
		faults = append(faults, usagef("--namespaces %s: %s", path, strings.TrimSpace(line)))
	}
	return faults
}

// uselessHistory tells of flags that say what is kept beside a file that says it.
func (s *settings) uselessHistory(opts *options) error {
	if s.access.namespaces == "" {
		return nil
	}
	for _, name := range []string{"history", "history-ttl"} {
		if o := opts.byName[name]; o.source.kind != fromDefault {
			return usagef("--%s %s does not count beside --namespaces: put history_size and history_ttl into the file, and leave it out", name, o.text)
		}
	}
	return nil
}

// verifier makes what verifies tokens; nil without keys. Key sets are fetched meanwhile.
func (a *access) verifier(ctx context.Context, log *slog.Logger) (*auth.Verifier, error) {
	if !a.keyed {
		return nil, nil
	}
	opt := a.tokens
	opt.OnError = func(err error) { log.Warn("the key set cannot be fetched", "error", err.Error()) }
	return auth.New(ctx, opt)
}

// insecureText warns of --insecure.
const insecureText = "--insecure: everybody may do everything, and no token is looked at: for trials only"

// rights tells what clients may do, and what serve would warn of.
func (f *findings) rights(a access, s *settings) {
	for _, w := range a.warnings {
		f.add(isWarning, "%s", w)
	}
	switch {
	case s.gateway.Insecure:
		f.add(isWarning, "%s", insecureText)
	case a.keyed && s.gateway.Namespaces == nil:
		f.add(isOK, "rights: by tokens alone, for there are no --namespaces: clients may subscribe to what their tokens name")
	case !a.keyed && s.gateway.Namespaces != nil:
		f.add(isOK, "rights: by --namespaces, and everybody is anonymous, for there are no keys of tokens")
	case a.keyed:
		f.add(isOK, "rights: by tokens and --namespaces")
	}
}

// rawFor settles what clients may do where rights are not asked for: with auto they
// publish only where every listener is out of others' reach. Where rights are asked
// for, they alone decide.
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
		return gateway.RawListen // they bring clients from elsewhere
	}
	for _, e := range public {
		if !e.local {
			return gateway.RawListen
		}
	}
	return gateway.RawPublish
}
