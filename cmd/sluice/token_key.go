package main

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"sluice/gateway/auth"
)

// Keys for tokens come from files: a flag's value is in the list of processes and in
// the history of a shell.

// keyBytesMax bounds what is read of a file with keys.
const keyBytesMax = 64 << 10

// readKeyFile reads the file of a flag. The warning, if not empty, says that a file which
// has to be secret is not. Errors are usage errors that name the flag; mend says what to
// give instead.
func readKeyFile(flag, path string, secret bool, mend string) (key []byte, warning string, err error) {
	fault := func(format string, args ...any) error {
		return usagef("--%s %s: %w: %s", flag, path, fmt.Errorf(format, args...), mend)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, "", fault("%w", bareError(err))
	}
	defer f.Close()
	if key, err = io.ReadAll(io.LimitReader(f, keyBytesMax+1)); err != nil {
		return nil, "", fault("%w", bareError(err))
	}
	if len(key) > keyBytesMax {
		return nil, "", fault("the file is longer than %d KiB", keyBytesMax>>10)
	}
	// What was opened is looked at, not what stands under the path by now.
	if info, err := f.Stat(); secret && err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o004 != 0 {
		warning = fmt.Sprintf("--%s %s: every user of this machine can read it: who has it can make tokens: chmod o= it", flag, path)
	}
	return key, warning, nil
}

// readHMACSecretFile reads a secret for HS256: the bytes of the file without the line end
// at its end.
func readHMACSecretFile(flag, path string) (secret []byte, warning string, err error) {
	secret, warning, err = readKeyFile(flag, path, true, "give a file with the secret, 'sluice token secret' makes one")
	if err != nil {
		return nil, "", err
	}
	secret = bytes.TrimRight(secret, "\r\n")
	if err := auth.CheckSecret(secret); err != nil {
		return nil, "", usagef("--%s %s: %w", flag, path, err)
	}
	return secret, warning, nil
}

// readPublicKeyFile reads a PEM file of public keys.
func readPublicKeyFile(flag, path string) ([]byte, error) {
	text, _, err := readKeyFile(flag, path, false, "give a PEM file with a public key")
	if err != nil {
		return nil, err
	}
	if err := auth.CheckPublicKey(text); err != nil {
		return nil, usagef("--%s %s: %w", flag, path, err)
	}
	return text, nil
}
