package migration

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/option"
)

// conf returns the text of sluice.conf.
func (c *conversion) conf() []byte {
	var b strings.Builder
	b.WriteString("# Made by 'sluice import centrifugo'. Paths are absolute: change them if the files move.\n")
	b.WriteString("# Behind a reverse proxy, set trusted-proxies to its address.\n")
	group := ""
	for _, opt := range c.options.List {
		for _, s := range c.settings {
			if s.name != opt.Name {
				continue
			}
			if opt.Group != group {
				group = opt.Group
				fmt.Fprintf(&b, "\n# %s\n", group)
			}
			if s.comment {
				b.WriteString("# ")
			}
			fmt.Fprintf(&b, "%s = %s\n", s.name, option.FileValue(strings.Map(printableOrSpace, s.value)))
		}
	}
	return []byte(b.String())
}

// printableOrSpace keeps a comment from ending early.
func printableOrSpace(r rune) rune {
	if r < ' ' || r == 0x7f {
		return ' '
	}
	return r
}

// write writes all files, or none.
func (c *conversion) write() error {
	all := append([]file{{confFile, c.conf()}}, c.files...)
	for _, f := range all {
		switch _, err := os.Lstat(filepath.Join(c.dir, f.name)); {
		case err == nil:
			return fmt.Errorf("%s exists already, and nothing is overwritten; use another directory, or remove it", filepath.Join(c.dir, f.name))
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%s: %w", c.dir, cli.BareError(err))
		}
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return fmt.Errorf("%s: %w", c.dir, cli.BareError(err))
	}
	for i, f := range all {
		if err := writeNew(filepath.Join(c.dir, f.name), f.data); err != nil {
			for _, written := range all[:i] {
				os.Remove(filepath.Join(c.dir, written.name)) // error ignored: the first one is reported
			}
			return fmt.Errorf("%s: %w", filepath.Join(c.dir, f.name), cli.BareError(err))
		}
	}
	return nil
}

// writeNew writes a file that must not exist. One that cannot be written as a whole is removed.
func writeNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(path) // error ignored: that of writing is reported
	}
	return err
}
