// Package datadir is the directory of a node that stores: its lock, the node's name, and the mark
// from which a later start finds out whether something of what was acknowledged is missing.
//
//	lock       held with flock for as long as the Dir is open; the pid of its holder
//	name       the node's name, drawn once
//	mark       see mark.go
//	jetstream  what the embedded nats-server stores; it locks nothing itself
//
// The generation counts the times that something may be missing: positions of an earlier one say
// nothing about what is there now. It belongs to the epoch of every history in the directory.
// When it rises it becomes the current Unix time in seconds, so that a directory and its copy do
// not reach the same one by counting.
//
// The package does not know NATS beyond the names of files in jetstream, and has no goroutine.
// A Dir is used by one goroutine at a time.
package datadir

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sluice/poller"
)

// Dir is an open data directory.
type Dir struct {
	path string
	lock *os.File
	name string

	mark     mark   // as it was written last or found
	cause    string // why the mark that was found is no good, "" if it is
	fresh    bool   // there was no mark and no stream
	identity identity
	boot     string // "" if unknown
	changed  []string
	blocks   []block
	warnings []string
}

// Open creates the directory if need be, with mode 0700, and takes its lock. Its errors are
// Faults.
//
// What lies there is as private as the messages in it. As sshd does with the directories of its
// keys, Open refuses one that everybody may write. Less than that is a warning, unlike sshd's: a
// container's volume is often a group's (Kubernetes' fsGroup sets that at each start).
func Open(path string) (*Dir, error) {
	d := &Dir{path: path}
	if err := d.open(); err != nil {
		if d.lock != nil {
			d.lock.Close() // ignored: nothing was written to it
		}
		return nil, d.fault(err)
	}
	return d, nil
}

// Fault is an error of a directory, in one line that names it.
type Fault struct {
	Dir string
	Err error // begins with the file of the directory, if it is about one
}

// Error implements error.
func (f *Fault) Error() string { return fmt.Sprintf("data directory %s: %v", f.Dir, f.Err) }
func (f *Fault) Unwrap() error { return f.Err }

// fault returns a Fault, which does not have the operation: that says nothing to a user.
func (d *Dir) fault(err error) error {
	path := ""
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		path, err = p.Path, p.Err
	} else if l := (*os.LinkError)(nil); errors.As(err, &l) {
		path, err = l.New, l.Err
	}
	if file, err := filepath.Rel(d.path, path); err == nil && filepath.IsLocal(file) && file != "." {
		path = file + ": "
	} else {
		path = ""
	}
	return &Fault{d.path, fmt.Errorf("%s%w", path, err)}
}

func (d *Dir) open() error {
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(d.path)
	if err != nil {
		return err
	}
	switch warning, err := checkMode(info); {
	case err != nil:
		return err
	case warning != "":
		d.warnings = append(d.warnings, fmt.Sprintf("data directory %s: %s", d.path, warning))
	}
	if err := d.takeLock(); err != nil {
		return err
	}
	if d.boot, err = bootID(); err != nil {
		d.warnings = append(d.warnings, fmt.Sprintf("data directory %s: after an unclean end all positions become invalid, because the boot id is unknown (%v)", d.path, err))
	}
	if err := d.readMark(); err != nil {
		return err
	}
	if d.name, err = d.readName(); err != nil {
		return err
	}
	return d.inspect()
}

// checkMode returns what is doubtful about a directory's mode.
func checkMode(info fs.FileInfo) (warning string, err error) {
	switch mode := info.Mode().Perm(); {
	case mode&0o002 != 0:
		return "", fmt.Errorf("mode %#o lets everybody write to it; use chmod 700, or name a directory below it, which is created", mode)
	case mode&0o075 != 0:
		return fmt.Sprintf("mode %#o gives others access to the messages in it; use chmod 700", mode), nil
	}
	return "", nil
}

// holder returns the pid in the lock, -1 if there is none.
func holder(f *os.File) int {
	pid := -1
	text := make([]byte, 32)
	n, _ := f.ReadAt(text, 0)                  // ignored: it is short
	fmt.Sscanf(string(text[:n]), "%d\n", &pid) // ignored: then the pid is unknown
	return pid
}

func (d *Dir) takeLock() (err error) {
	if d.lock, err = os.OpenFile(filepath.Join(d.path, "lock"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	switch err := poller.LockFile(d.lock); {
	case errors.Is(err, poller.ErrLocked):
		if pid := holder(d.lock); pid > 0 {
			return fmt.Errorf("in use by process %d; end it, or use another directory", pid)
		}
		return errors.New("in use by another process; end it, or use another directory")
	case err != nil:
		return err
	}
	if err := d.lock.Truncate(0); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(d.lock, os.Getpid()); err != nil {
		return err
	}
	d.identity.Device, d.identity.Inode, d.identity.Born, err = poller.FileIdentity(d.lock)
	return err
}

// nameMax bounds the file name.
const nameMax = 256

// readName returns the node's name, which is drawn if there is none.
func (d *Dir) readName() (string, error) {
	name, err := d.foundName()
	if errors.Is(err, fs.ErrNotExist) {
		name = DrawName()
		err = d.replace("name", []byte(name+"\n"), true)
	}
	return name, err
}

func (d *Dir) foundName() (string, error) {
	f, err := os.Open(filepath.Join(d.path, "name"))
	if err != nil {
		return "", err
	}
	defer f.Close() // error ignored: it was only read
	text, err := io.ReadAll(io.LimitReader(f, nameMax))
	if err != nil {
		return "", err
	}
	name := strings.TrimSpace(string(text))
	if name == "" || strings.ContainsAny(name, " \t\r\n") {
		return "", errors.New("name: malformed; it contains the node's name, and is drawn anew if you remove it")
	}
	return name, nil
}

// DrawName returns a random name for a node.
func DrawName() string {
	var b [4]byte
	rand.Read(b[:]) // it never fails
	return "node-" + hex.EncodeToString(b[:])
}

// RoomLeast is the free space below which nothing should be written: a store does not recover from a
// full disk by itself.
const RoomLeast = 64 << 20

// Free returns how many bytes the file system of path has left for this process.
func Free(path string) (int64, error) { return poller.FreeBytes(path) }

// Path returns the directory's path.
func (d *Dir) Path() string { return d.path }

// Name returns the node's name.
func (d *Dir) Name() string { return d.name }

// Warnings returns what is doubtful about the directory.
func (d *Dir) Warnings() []string { return d.warnings }

// Generation returns the directory's generation, which is known from Settle on.
func (d *Dir) Generation() uint64 { return d.mark.Generation }

// replace writes a file so that a reader finds the old content or the new one. With sync it is on
// disk afterwards.
func (d *Dir) replace(name string, content []byte, sync bool) error {
	path := filepath.Join(d.path, name)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil && sync {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	if !sync {
		return nil
	}
	parent, err := os.Open(d.path)
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}

// Close releases the lock. After a clean end, which is one whose server has shut down, nothing
// that is there now may be different at the next start.
func (d *Dir) Close(clean bool, acknowledged map[string]uint64) error {
	defer d.forgetBlocks()
	var err error
	if clean {
		err = d.markClean(acknowledged)
	}
	err = errors.Join(err, poller.UnlockFile(d.lock), d.lock.Close())
	if err != nil {
		return d.fault(err)
	}
	return nil
}

// raise lets the generation go up.
func (d *Dir) raise(now time.Time) {
	d.mark.Generation = max(d.mark.Generation+1, uint64(max(0, now.Unix())))
}
