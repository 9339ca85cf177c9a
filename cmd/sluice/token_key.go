package main

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"sluice/gateway/access/auth"
)

// Keys for tokens come from files: a flag's value is visible in the process list and in
// the shell's history.

// keyBytesMax is the largest file of keys that is read.
const keyBytesMax = 64 << 10

// readKeyFile reads the file of a flag. The warning, if not empty, says that a file which
// should be secret is not. Errors are usage errors that name the flag; advice says what to
// give instead.
func readKeyFile(flag, path string, secret bool, advice string) (key []byte, warning string, err error) {
	fault := func(format string, args ...any) error {
		return optionUsage(flag, " %s: %w; %s", path, fmt.Errorf(format, args...), advice)
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
	// Check the file that was opened, not what is at the path by now.
	if info, err := f.Stat(); secret && err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o004 != 0 {
		warning = fmt.Sprintf("--%s %s: every user of this machine can read it and make tokens with it; run 'chmod o= %[2]s'", flag, path)
	}
	return key, warning, nil
}

// readHMACSecretFile reads a secret for HS256: the bytes of the file without the newline at
// its end.
func readHMACSecretFile(flag, path string) (secret []byte, warning string, err error) {
	secret, warning, err = readKeyFile(flag, path, true, "use a file with the secret, such as the output of 'sluice token secret'")
	if err != nil {
		return nil, "", err
	}
	secret = bytes.TrimRight(secret, "\r\n")
	if err := auth.CheckSecret(secret); err != nil {
		return nil, "", optionUsage(flag, " %s: %w", path, err)
	}
	return secret, warning, nil
}

// readPublicKeyFile reads a PEM file of public keys.
func readPublicKeyFile(flag, path string) ([]byte, error) {
	text, _, err := readKeyFile(flag, path, false, "use a PEM file with a public key")
	if err != nil {
		return nil, err
	}
	if err := auth.CheckPublicKey(text); err != nil {
		return nil, optionUsage(flag, " %s: %w", path, err)
	}
	return text, nil
}
