package cli

import (
	"fmt"
	"io"
	"os"
)

// KeyBytesMax is the largest file of keys that is read.
const KeyBytesMax = 64 << 10

// ReadKeyFile reads the file of a flag. The warning, if not empty, says that a file which
// should be secret is not. Errors are usage errors that name the flag; advice says what to
// give instead.
func ReadKeyFile(flag, path string, secret bool, advice string) (key []byte, warning string, err error) {
	fault := func(format string, args ...any) error {
		return OptionUsage(flag, " %s: %w; %s", path, fmt.Errorf(format, args...), advice)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, "", fault("%w", BareError(err))
	}
	defer f.Close()
	if key, err = io.ReadAll(io.LimitReader(f, KeyBytesMax+1)); err != nil {
		return nil, "", fault("%w", BareError(err))
	}
	if len(key) > KeyBytesMax {
		return nil, "", fault("the file is longer than %d KiB", KeyBytesMax>>10)
	}
	// Check the file that was opened, not what is at the path by now.
	if info, err := f.Stat(); secret && err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o004 != 0 {
		warning = fmt.Sprintf("--%s %s: every user of this machine can read it and make tokens with it; run 'chmod o= %[2]s'", flag, path)
	}
	return key, warning, nil
}
