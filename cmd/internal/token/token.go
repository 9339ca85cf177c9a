package token

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

	"sluice/cmd/internal/cli"
	"sluice/gateway/access/auth"
)

// NewCommand returns `sluice token`: what an application's backend does with a
// library, for the first try and for finding out why a token is rejected.
func NewCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token COMMAND",
		Short: "Make and verify client tokens (JWT)",
		Example: `  sluice token secret > secret.txt
  sluice token make --token-hmac-secret-file secret.txt --user 42`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cli.Usagef("missing command: use make, verify or secret; see '%s --help'", cmd.CommandPath())
			}
			return cli.UnknownCommand(cmd, args[0], "")
		},
		RunE: func(*cobra.Command, []string) error { return nil }, // never reached
	}
	cli.SetHelp(cmd)
	cmd.AddCommand(newTokenMakeCommand(), newTokenVerifyCommand(), newTokenSecretCommand())
	return cmd
}

func newTokenSecretCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "secret",
		Short: "Print a new secret for tokens (HS256, HS384, HS512)",
		Example: `  (umask 077; sluice token secret > secret.txt)
  sluice token secret | docker secret create sluice-token-secret -`,
		Long: `Prints 32 random bytes as 64 hexadecimal digits. The digits themselves are the
secret. A backend must not decode them, and must strip the newline after them.`,
		Args: cli.NoArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var secret [32]byte
			rand.Read(secret[:]) // never fails
			_, err := fmt.Fprintln(cmd.OutOrStdout(), hex.EncodeToString(secret[:]))
			return err
		},
	}
	cli.SetHelp(cmd)
	return cmd
}

// tokenMake are the flags of `sluice token make`.
type tokenMake struct {
	secretFile, keyFile, keyID, alg string
	expires                         time.Duration
	info, meta                      string
	claims                          auth.Claims
}

func newTokenMakeCommand() *cobra.Command {
	var m tokenMake
	cmd := &cobra.Command{
		Use:   "make",
		Short: "Make a token and print it",
		Example: `  sluice token make --token-hmac-secret-file secret.txt --user 42
  sluice token make --private-key key.pem --user 42 --channel chat:1`,
		Long: `With --channel, the token is a subscription token for that one channel. Without
it, it is a connection token. The key determines the algorithm: HS256 for a
secret, RS256 for RSA, ES256 for P-256, ES384 for P-384, ES512 for P-521, EdDSA
for Ed25519. --alg chooses a longer hash for a secret or an RSA key.`,
		Args: cli.NoArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("user") {
				return cli.Usagef("missing --user: specify the user's ID, or --user '' for an anonymous user")
			}
			signer, warning, err := m.signer()
			if err != nil {
				return err
			}
			if m.alg != "" {
				if signer, err = signer.Using(m.alg); err != nil {
					return cli.Usagef("--alg %s: %w", m.alg, err)
				}
			}
			if err := m.settle(time.Now()); err != nil {
				return err
			}
			token, err := signer.Sign(m.claims)
			if err != nil {
				return err
			}
			if warning != "" {
				cli.Notes(cmd.ErrOrStderr())("%s", warning)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&m.secretFile, "token-hmac-secret-file", "", "sign with the secret in `FILE`, the same secret as the gateway's, at least 32 bytes")
	f.StringVar(&m.keyFile, "private-key", "", "sign with the private key in this PEM `FILE` instead; the gateway must be configured with its public key")
	f.StringVar(&m.keyID, "key-id", "", "key `ID` (kid) of --private-key in the gateway's key set (JWKS)")
	f.StringVar(&m.alg, "alg", "", "`ALGORITHM` of the signature, such as HS512 for a secret or RS384 for an RSA key; without it, the key's first")
	f.StringVar(&m.claims.User, "user", "", "user `ID` (sub); '' for an anonymous user")
	f.DurationVar(&m.expires, "expires", time.Hour, "make a token that is valid for `TIME`; 0: forever, for tests only")
	f.StringVar(&m.claims.Channel, "channel", "", "make a subscription token for this `CHANNEL`")
	f.StringVar(&m.claims.Client, "client", "", "restrict the subscription token to the connection with this client `ID`")
	f.StringSliceVar(&m.claims.Channels, "channels", nil, "subscribe the connection to `CHANNELS` on the server side")
	f.StringVar(&m.info, "info", "", "`JSON` about the user that other clients see in presence")
	f.StringVar(&m.meta, "meta", "", "`JSON` about the user that no client sees")
	f.StringVar(&m.claims.Audience, "aud", "", "`AUDIENCE` (aud), if the gateway requires one")
	f.StringVar(&m.claims.Issuer, "iss", "", "`ISSUER` (iss), if the gateway requires one")
	cli.SetHelp(cmd, cli.Flags("Key", "token-hmac-secret-file", "private-key", "key-id", "alg"),
		cli.Flags("Claims", "user", "expires", "channel", "client", "channels", "info", "meta", "aud", "iss"))
	return cmd
}

// signer reads the key.
func (m *tokenMake) signer() (s *auth.Signer, warning string, err error) {
	switch {
	case (m.secretFile == "") == (m.keyFile == ""):
		return nil, "", cli.Usagef("a token needs exactly one key: use --token-hmac-secret-file or --private-key")
	case m.secretFile != "" && m.keyID != "":
		return nil, "", cli.Usagef("--key-id %s is only for --private-key: a secret has no key ID; remove it, or use --private-key", m.keyID)
	case m.secretFile != "":
		secret, warning, err := ReadSecret("token-hmac-secret-file", m.secretFile)
		if err != nil {
			return nil, "", err
		}
		s, err = auth.NewHMACSigner(secret)
		return s, warning, err
	}
	text, warning, err := cli.ReadKeyFile("private-key", m.keyFile, true, "use a PEM file with a private key")
	if err != nil {
		return nil, "", err
	}
	if s, err = auth.NewSigner(text, m.keyID); err != nil {
		return nil, "", cli.Usagef("--private-key %s: %w", m.keyFile, err)
	}
	return s, warning, nil
}

// settle fills in the claims, and rejects flags that contradict each other.
func (m *tokenMake) settle(now time.Time) error {
	c := &m.claims
	switch {
	case m.expires < 0 || m.expires > 0 && m.expires < time.Second:
		return cli.Usagef("--expires %v: must be at least 1s, such as 1h, or 0 for never", m.expires)
	case c.Channel != "" && len(c.Channels) > 0:
		return cli.Usagef("--channel %s cannot be combined with --channels: one is for a subscription token, the other for a connection token; remove one", c.Channel)
	case c.Client != "" && c.Channel == "":
		return cli.Usagef("--client %s needs --channel: only subscription tokens can be restricted to one client; add --channel", c.Client)
	case c.Channel != "" && m.meta != "":
		return cli.Usagef("--channel %s cannot be combined with --meta, which only connection tokens can have: remove one", c.Channel)
	}
	for _, v := range []struct {
		flag, text string
		to         *json.RawMessage
	}{{"info", m.info, &c.Info}, {"meta", m.meta, &c.Meta}} {
		if v.text == "" {
			continue
		}
		if !json.Valid([]byte(v.text)) {
			return cli.Usagef("--%s %s: must be JSON, such as '{\"name\":\"Ada\"}'", v.flag, v.text)
		}
		*v.to = json.RawMessage(v.text)
	}
	c.IssuedAt = now.Unix()
	if m.expires > 0 {
		c.ExpiresAt = now.Add(m.expires).Unix()
	}
	return nil
}

// tokenVerify are the flags of `sluice token verify`.
type tokenVerify struct {
	secretFiles []string
	publicFiles []string
	options     auth.Options

	mu     sync.Mutex
	failed error // why the key set could not be fetched
}

func newTokenVerifyCommand() *cobra.Command {
	var v tokenVerify
	cmd := &cobra.Command{
		Use:   "verify [TOKEN]",
		Short: "Verify a token and print its claims: exit code 0 or 1",
		Example: `  sluice token verify --token-hmac-secret-file secret.txt < token.txt
  sluice token verify --jwks-url https://id.example.com/jwks.json "$TOKEN"`,
		Long: `Verifies a token exactly as a gateway with the same keys, audience and issuer
would. Without TOKEN, the token is read from standard input, which keeps it out
of the process list.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return cli.Usagef("unexpected argument %q: verify one token at a time", args[1])
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
				cli.Notes(cmd.ErrOrStderr())("%s", warning)
			}
			return cli.PrintJSON(cmd.OutOrStdout(), json.RawMessage(claims))
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&v.secretFiles, "token-hmac-secret-file", nil, "`FILE` with the secret, for HS256, HS384 and HS512 (repeatable)")
	f.StringSliceVar(&v.publicFiles, "token-public-key-file", nil, "PEM `FILE` with public keys, for RS, ES or EdDSA signatures (repeatable)")
	f.StringVar(&v.options.JWKSURL, "jwks-url", "", "`URL` of a key set (JWKS): https, or http on this machine")
	f.StringVar(&v.options.Audience, "aud", "", "`AUDIENCE` (aud) that the token must have")
	f.StringVar(&v.options.Issuer, "iss", "", "`ISSUER` (iss) that the token must have")
	cli.SetHelp(cmd, cli.Flags("Keys (at least one)", "token-hmac-secret-file", "token-public-key-file", "jwks-url"),
		cli.Flags("Claims", "aud", "iss"))
	return cmd
}

// keys reads the files.
func (v *tokenVerify) keys() (warning string, err error) {
	if len(v.secretFiles) == 0 && len(v.publicFiles) == 0 && v.options.JWKSURL == "" {
		return "", cli.Usagef("missing key: use --token-hmac-secret-file, --token-public-key-file or --jwks-url")
	}
	for _, path := range v.secretFiles {
		secret, found, err := ReadSecret("token-hmac-secret-file", path)
		if err != nil {
			return "", err
		}
		if v.options.HMACSecrets = append(v.options.HMACSecrets, secret); warning == "" {
			warning = found
		}
	}
	for _, path := range v.publicFiles {
		text, err := ReadPublicKey("token-public-key-file", path)
		if err != nil {
			return "", err
		}
		v.options.PublicKeys = append(v.options.PublicKeys, text)
	}
	if v.options.JWKSURL != "" {
		if err := auth.CheckJWKSURL(v.options.JWKSURL); err != nil {
			return "", cli.Usagef("--jwks-url %s: %w", cli.RedactURL(v.options.JWKSURL), err)
		}
	}
	return warning, nil
}

// tokenFrom returns the token from the arguments or standard input. White space around it
// comes from a terminal or a file and is not part of it.
func tokenFrom(stdin io.Reader, args []string) (string, error) {
	if len(args) == 1 {
		return strings.TrimSpace(args[0]), nil
	}
	b, err := io.ReadAll(io.LimitReader(stdin, cli.KeyBytesMax)) // far more than any token
	if err != nil {
		return "", fmt.Errorf("standard input: %w", cli.BareError(err))
	}
	token := strings.TrimSpace(string(b))
	if token == "" {
		return "", cli.Usagef("standard input is empty: pass the token there, or as an argument")
	}
	return token, nil
}

// verify returns the claims as JSON.
func (v *tokenVerify) verify(ctx context.Context, token string) ([]byte, error) {
	v.options.OnError = func(err error) {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.failed = err
	}
	verifier, err := auth.New(ctx, v.options)
	if err != nil {
		return nil, cli.Usagef("%w", err)
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
	// The set has just been fetched, so the key is unknown; a gateway would fetch it again.
	return nil, errors.New("invalid token: its key (kid) is not in the key set")
}
