package token

import (
	"bytes"

	"sluice/cmd/internal/cli"
	"sluice/gateway/access/auth"
)

// Keys for tokens come from files: a flag's value is visible in the process list and in
// the shell's history.

// ReadSecret reads a secret for HMAC signatures: the bytes of the file without the newline at
// its end.
func ReadSecret(flag, path string) (secret []byte, warning string, err error) {
	secret, warning, err = cli.ReadKeyFile(flag, path, true, "use a file with the secret, such as the output of 'sluice token secret'")
	if err != nil {
		return nil, "", err
	}
	secret = bytes.TrimRight(secret, "\r\n")
	if err := auth.CheckSecret(secret); err != nil {
		return nil, "", cli.OptionUsage(flag, " %s: %w", path, err)
	}
	return secret, warning, nil
}

// ReadPublicKey reads a PEM file of public keys.
func ReadPublicKey(flag, path string) ([]byte, error) {
	text, _, err := cli.ReadKeyFile(flag, path, false, "use a PEM file with a public key")
	if err != nil {
		return nil, err
	}
	if err := auth.CheckPublicKey(text); err != nil {
		return nil, cli.OptionUsage(flag, " %s: %w", path, err)
	}
	return text, nil
}
