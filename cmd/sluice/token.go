package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"sluice/gateway/auth"
)

// newTokenCommand gives `sluice token`: what an application's backend does with a
// library, for the first try and for finding out why a token is refused.
func newTokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token COMMAND",
		Short: "Make and verify the tokens (JWT) of clients",
		Example: `  sluice token secret > secret.txt
  sluice token make --token-hmac-secret-file secret.txt --user 42`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("no command is named: give make, verify or secret: see '%s --help'", cmd.CommandPath())
			}
			return unknownCommand(cmd, args[0])
		},
		RunE: func(*cobra.Command, []string) error { return nil }, // never reached
	}
	setHelp(cmd)
	cmd.AddCommand(newTokenMakeCommand(), newTokenVerifyCommand(), newTokenSecretCommand())
	return cmd
}

func newTokenSecretCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "secret",
		Short: "Print a fresh secret for tokens of HS256",
		Example: `  (umask 077; sluice token secret > secret.txt)
  sluice token secret | docker secret create sluice-token-secret -`,
		Long: `It is 32 random bytes as 64 hexadecimal digits. The digits themselves are the
secret: backends must not decode them.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var secret [32]byte
			rand.Read(secret[:]) // it does not fail
			_, err := fmt.Fprintln(cmd.OutOrStdout(), hex.EncodeToString(secret[:]))
			return err
		},
	}
	setHelp(cmd)
	return cmd
}

// tokenMake is what `sluice token make` is told.
type tokenMake struct {
	secretFile, keyFile, keyID string
	expires                    time.Duration
	info, meta                 string
	claims                     auth.Claims
}

func newTokenMakeCommand() *cobra.Command {
	var m tokenMake
	cmd := &cobra.Command{
		Use:   "make",
		Short: "Make a token and print it",
		Example: `  sluice token make --token-hmac-secret-file secret.txt --user 42
  sluice token make --private-key key.pem --user 42 --channel chat:1`,
		Long: `With --channel it is a subscription token, which grants that one channel;
without, a connection token. The key decides the algorithm: HS256 for a secret,
RS256 for RSA, ES256 for P-256, EdDSA for Ed25519.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("user") {
				return usagef("--user is missing: give the user's id, or --user '' for nobody in particular")
			}
			signer, warning, err := m.signer()
			if err != nil {
				return err
			}
			if err := m.settle(time.Now()); err != nil {
				return err
			}
			token, err := signer.Sign(m.claims)
			if err != nil {
				return err
			}
			if warning != "" {
				notes(cmd.ErrOrStderr())("%s", warning)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&m.secretFile, "token-hmac-secret-file", "", "a `FILE` with the secret that the gateway has, at least 32 bytes")
	f.StringVar(&m.keyFile, "private-key", "", "instead: a `FILE` with a private key in PEM, whose public key the gateway has")
	f.StringVar(&m.keyID, "key-id", "", "the `ID` (kid) of that key in the gateway's key set")
	f.StringVar(&m.claims.User, "user", "", "the user's `ID`")
	f.DurationVar(&m.expires, "expires", time.Hour, "`TIME` until it ends; 0 for never, which is for tests")
	f.StringVar(&m.claims.Channel, "channel", "", "make a subscription token for this `CHANNEL`")
	f.StringVar(&m.claims.Client, "client", "", "let only the connection with this `ID` use the subscription token")
	f.StringSliceVar(&m.claims.Channels, "channels", nil, "`CHANNELS` that the connection is subscribed to by the gateway")
	f.StringVar(&m.info, "info", "", "`JSON` about the user that others see in presence")
	f.StringVar(&m.meta, "meta", "", "`JSON` about the user that no client sees")
	f.StringVar(&m.claims.Audience, "aud", "", "the `AUDIENCE`, where the gateway demands one")
	f.StringVar(&m.claims.Issuer, "iss", "", "the `ISSUER`, where the gateway demands one")
	setHelp(cmd, flagGroup{"Key", []string{"token-hmac-secret-file", "private-key", "key-id"}},
		flagGroup{"Claims", []string{"user", "expires", "channel", "client", "channels", "info", "meta", "aud", "iss"}})
	return cmd
}

// signer reads the key.
func (m *tokenMake) signer() (s *auth.Signer, warning string, err error) {
	switch {
	case (m.secretFile == "") == (m.keyFile == ""):
		return nil, "", usagef("one key signs: give --token-hmac-secret-file or --private-key")
	case m.secretFile != "" && m.keyID != "":
		return nil, "", usagef("--key-id %s: a secret is in no key set: leave it out, or give --private-key", m.keyID)
	case m.secretFile != "":
		secret, warning, err := readHMACSecretFile("token-hmac-secret-file", m.secretFile)
		if err != nil {
			return nil, "", err
		}
		s, err = auth.NewHMACSigner(secret)
		return s, warning, err
	}
	text, warning, err := readKeyFile("private-key", m.keyFile, true, "give a PEM file with a private key")
	if err != nil {
		return nil, "", err
	}
	if s, err = auth.NewSigner(text, m.keyID); err != nil {
		return nil, "", usagef("--private-key %s: %w", m.keyFile, err)
	}
	return s, warning, nil
}

// settle settles what the token is to say, and refuses what contradicts itself.
func (m *tokenMake) settle(now time.Time) error {
	c := &m.claims
	switch {
	case m.expires < 0 || m.expires > 0 && m.expires < time.Second:
		return usagef("--expires %v: tokens count whole seconds: give a time such as 1h, or 0 for never", m.expires)
	case c.Channel != "" && len(c.Channels) > 0:
		return usagef("--channel %s with --channels: no token is for both a subscription and a connection: leave one out", c.Channel)
	case c.Client != "" && c.Channel == "":
		return usagef("--client %s without --channel: only a subscription token has one: give a channel too", c.Client)
	case c.Channel != "" && m.meta != "":
		return usagef("--channel %s with --meta: only a connection token has that: leave one out", c.Channel)
	}
	for _, v := range []struct {
		flag, text string
		to         *json.RawMessage
	}{{"info", m.info, &c.Info}, {"meta", m.meta, &c.Meta}} {
		if v.text == "" {
			continue
		}
		if !json.Valid([]byte(v.text)) {
			return usagef("--%s %s: not JSON: give some such as '{\"name\":\"Ada\"}'", v.flag, v.text)
		}
		*v.to = json.RawMessage(v.text)
	}
	c.IssuedAt = now.Unix()
	if m.expires > 0 {
		c.ExpiresAt = now.Add(m.expires).Unix()
	}
	return nil
}

// tokenVerify is what `sluice token verify` is told.
type tokenVerify struct {
	secretFiles []string
	publicFiles []string
	options     auth.Options

	mu     sync.Mutex
	failed error // why the key set was not fetched
}

func newTokenVerifyCommand() *cobra.Command {
	var v tokenVerify
	cmd := &cobra.Command{
		Use:   "verify [TOKEN]",
		Short: "Verify a token and print its claims: exit code 0 or 1",
		Example: `  sluice token verify --token-hmac-secret-file secret.txt < token.txt
  sluice token verify --jwks-url https://id.example.com/jwks.json "$TOKEN"`,
		Long: `It judges a token as the gateway does with the same keys, --aud and --iss.
Without TOKEN it is read from standard input, where no list of processes shows
it.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("unexpected argument %q: one token is verified at a time", args[1])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			warning, err := v.keys()
			if err != nil {
				return err
			}
			token, err := tokenFrom(cmd.InOrStdin(), args)
			if err != nil {
				return err
			}
			claims, err := v.verify(cmd.Context(), token)
			if err != nil {
				return err
			}
			if warning != "" {
				notes(cmd.ErrOrStderr())("%s", warning)
			}
			out := json.NewEncoder(cmd.OutOrStdout())
			out.SetIndent("", "  ")
			out.SetEscapeHTML(false)
			return out.Encode(json.RawMessage(claims))
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&v.secretFiles, "token-hmac-secret-file", nil, "a `FILE` with the secret, for HS256; may be repeated")
	f.StringSliceVar(&v.publicFiles, "token-public-key-file", nil, "a `FILE` with public keys in PEM, for RS256, ES256 or EdDSA; may be repeated")
	f.StringVar(&v.options.JWKSURL, "jwks-url", "", "the `URL` of a key set, https or on this machine")
	f.StringVar(&v.options.Audience, "aud", "", "the `AUDIENCE` that it has to have")
	f.StringVar(&v.options.Issuer, "iss", "", "the `ISSUER` that it has to have")
	setHelp(cmd, flagGroup{"Keys, at least one", []string{"token-hmac-secret-file", "token-public-key-file", "jwks-url"}},
		flagGroup{"Claims", []string{"aud", "iss"}})
	return cmd
}

// keys reads the files.
func (v *tokenVerify) keys() (warning string, err error) {
	if len(v.secretFiles) == 0 && len(v.publicFiles) == 0 && v.options.JWKSURL == "" {
		return "", usagef("no key is named: give --token-hmac-secret-file, --token-public-key-file or --jwks-url")
	}
	for _, path := range v.secretFiles {
		secret, found, err := readHMACSecretFile("token-hmac-secret-file", path)
		if err != nil {
			return "", err
		}
		if v.options.HMACSecrets = append(v.options.HMACSecrets, secret); warning == "" {
			warning = found
		}
	}
	for _, path := range v.publicFiles {
		text, err := readPublicKeyFile("token-public-key-file", path)
		if err != nil {
			return "", err
		}
		v.options.PublicKeys = append(v.options.PublicKeys, text)
	}
	if v.options.JWKSURL != "" {
		if err := auth.CheckJWKSURL(v.options.JWKSURL); err != nil {
			return "", usagef("--jwks-url %s: %w", v.options.JWKSURL, err)
		}
	}
	return warning, nil
}

// tokenFrom takes the token from where it is. White space around it comes from a
// terminal or a file, and is not a part of it.
func tokenFrom(stdin io.Reader, args []string) (string, error) {
	if len(args) == 1 {
		return strings.TrimSpace(args[0]), nil
	}
	b, err := io.ReadAll(io.LimitReader(stdin, keyBytesMax)) // far more than any token
	if err != nil {
		return "", fmt.Errorf("standard input: %w", bareError(err))
	}
	token := strings.TrimSpace(string(b))
	if token == "" {
		return "", usagef("standard input is empty: give the token there or as an argument")
	}
	return token, nil
}

// verify gives the claims in JSON.
func (v *tokenVerify) verify(ctx context.Context, token string) ([]byte, error) {
	v.options.OnError = func(err error) {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.failed = err
	}
	verifier, err := auth.New(ctx, v.options)
	if err != nil {
		return nil, usageError{err}
	}
	defer verifier.Close()
	claims, err := verifier.Claims(ctx, token, time.Now())
	if err == nil || !errors.Is(err, auth.ErrUnavailable) {
		return claims, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.failed != nil {
		return nil, fmt.Errorf("%w: %w", err, v.failed)
	}
	// The set was fetched a moment ago, so what a gateway leaves open is settled here.
	return nil, errors.New("invalid token: the key that it names (kid) is not in the key set")
}
