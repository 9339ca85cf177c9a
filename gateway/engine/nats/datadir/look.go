package datadir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"sluice/poller"
)

// Report is what an operator wants to know of a data directory before a gateway uses it.
type Report struct {
	Err        error         // it cannot be used at all; the rest may be empty
	New        bool          // it does not exist yet and can be created
	Warning    string        // its mode
	Holder     int           // pid of the process that uses it; 0: none, -1: unknown
	Mark       string        // why positions will become invalid, as far as that can be seen now
	Name       string        // the node's, "" if it is not drawn yet
	Generation uint64        // 0 if it is new
	Free       int64         // bytes
	Used       int64         // bytes of the store
	Sync       time.Duration // the median time for which a small write and its fsync take,
	SyncMost   time.Duration // and the longest
}

// syncs is how often Look syncs.
const syncs = 15

// Look inspects a directory and leaves nothing behind in it. Another process may use it.
func Look(path string) (r Report) {
	d := &Dir{path: path}
	fail := func(err error) Report {
		r.Err = d.fault(err)
		return r
	}
	place := path // where to write on trial
	switch info, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		r.New = true
		for place = filepath.Dir(path); ; place = filepath.Dir(place) {
			if _, err := os.Stat(place); !errors.Is(err, fs.ErrNotExist) || place == filepath.Dir(place) {
				break
			}
		}
	case err != nil:
		return fail(err)
	case !info.IsDir():
		return fail(errors.New("not a directory"))
	default:
		if r.Warning, err = checkMode(info); err != nil {
			return fail(err)
		}
		if err := r.content(d); err != nil {
			return fail(err)
		}
	}
	var err error
	if r.Free, err = poller.FreeBytes(place); err != nil {
		return fail(err)
	}
	if r.Sync, r.SyncMost, err = syncTime(place); err != nil {
		return fail(err)
	}
	return r
}

// content reads what is there.
func (r *Report) content(d *Dir) (err error) {
	if r.Holder, err = holderIn(d.path); err != nil {
		return err
	}
	if err := d.readMark(); err != nil {
		return err
	}
	names, err := d.streams()
	if err != nil {
		return err
	}
	if len(names) > 0 && r.Holder == 0 {
		r.Mark = d.cause
	}
	r.Generation = d.mark.Generation
	r.Name, _ = d.foundName() // ignored: a start reports it
	r.Used, err = size(filepath.Join(d.path, "jetstream"))
	return err
}

// holderIn returns the pid of the process that holds the lock of the directory at path, 0 if none does.
func holderIn(path string) (pid int, err error) {
	f, err := os.Open(filepath.Join(path, "lock"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close() // error ignored: it was only read, and the lock goes with it
	if err := poller.LockFile(f); !errors.Is(err, poller.ErrLocked) {
		return 0, err
	}
	return holder(f), nil
}

// size returns the bytes of all files below path. A store that is in use loses some meanwhile.
func size(path string) (n int64, err error) {
	err = filepath.WalkDir(path, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = e.Info(); err == nil {
				n += info.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return n, err
}

// syncTime measures a write with fsync in a directory.
func syncTime(dir string) (median, most time.Duration, err error) {
	f, err := os.CreateTemp(dir, ".sluice-check-")
	if err != nil {
		return 0, 0, err
	}
	defer os.Remove(f.Name()) // error ignored: it is empty but for this
	defer f.Close()           // error ignored: its content does not matter
	var took []time.Duration
	page := make([]byte, 4<<10)
	for range syncs {
		began := time.Now()
		if _, err := f.Write(page); err != nil {
			return 0, 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, 0, err
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[len(took)/2], took[len(took)-1], nil
}
