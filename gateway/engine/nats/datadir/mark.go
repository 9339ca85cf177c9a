package datadir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// version is that of the directory's format. A directory of a newer one is refused.
const version = 1

// mark is the content of the file mark, in JSON.
type mark struct {
	Version    int               `json:"version"`
	Boot       string            `json:"boot"`  // of the machine's run in which it was written
	Clean      bool              `json:"clean"` // the end; false while it is open
	Generation uint64            `json:"generation"`
	Lock       identity          `json:"lock"`
	Streams    map[string]uint64 `json:"acknowledged"`    // at least the highest sequence acknowledged 100 ms ago
	Files      map[string]string `json:"files,omitempty"` // after a clean end: digests of the streams' files
}

// identity tells a directory from a copy of it, by its lock.
type identity struct {
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
	Born   int64  `json:"born"` // in ns; 0: unknown
}

// same reports whether two identities are those of one file. The number of a device may be
// another one after a reboot or a mount, so it counts only where nothing better is known.
func (i identity) same(o identity) bool {
	return i.Inode == o.Inode && i.Born == o.Born && (i.Born != 0 || i.Device == o.Device)
}

// markMax bounds the mark. A stream is some 150 bytes.
const markMax = 8 << 20

// readMark reads the mark. One that cannot be read is no error, but the generation will rise.
func (d *Dir) readMark() error {
	f, err := os.Open(filepath.Join(d.path, "mark"))
	if errors.Is(err, fs.ErrNotExist) {
		d.cause = "the mark is missing"
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close() // error ignored: it was only read
	content, err := io.ReadAll(io.LimitReader(f, markMax))
	if err != nil {
		return err
	}
	var written struct{ Version int }
	if err := json.Unmarshal(content, &written); err != nil || written.Version < 1 {
		d.cause = "the mark is unreadable"
		return nil
	}
	if written.Version > version {
		return fmt.Errorf("written by a newer version of sluice (format %d; this one knows %d): run that version or use another directory", written.Version, version)
	}
	if err := json.Unmarshal(content, &d.mark); err != nil {
		d.mark = mark{}
		d.cause = "the mark is unreadable"
	}
	return nil
}

// bootID returns what the kernel draws at each boot.
func bootID() (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text)), err
}

// End is the end of a stream after the store was opened.
type End struct {
	Last uint64 // the sequence of its newest message, which may have been removed
}

// Settle decides about the generation once the store has been opened, and marks the directory as
// in use. always says that each write was on disk before it was acknowledged. The reasons, one
// line each, are empty if the generation is kept. ends are those of all streams in the store.
func (d *Dir) Settle(ends map[string]End, always bool, now time.Time) (reasons []string, err error) {
	defer d.forgetBlocks()
	fresh := d.cause != "" && len(ends) == 0 && d.fresh
	if !fresh {
		reasons = d.reasons(ends, always)
	}
	switch {
	case fresh:
		d.mark.Generation = 1
	case len(reasons) > 0:
		d.raise(now)
	}
	d.mark.Version, d.mark.Boot, d.mark.Clean, d.mark.Lock, d.mark.Files = version, d.boot, false, d.identity, nil
	d.mark.Streams = map[string]uint64{}
	return reasons, d.settled(ends)
}

// settled marks the directory as in use.
func (d *Dir) settled(ends map[string]End) error {
	for name, end := range ends {
		d.mark.Streams[name] = end.Last
	}
	if err := d.setAside(ends); err != nil {
		return d.fault(err)
	}
	return d.writeMark(true)
}

func (d *Dir) reasons(ends map[string]End, always bool) (reasons []string) {
	if d.cause != "" {
		return []string{d.cause}
	}
	if !d.mark.Lock.same(d.identity) {
		reasons = append(reasons, "it is a copy, or was restored from one")
	}
	if !d.mark.Clean && !always && (d.boot == "" || d.boot != d.mark.Boot) {
		reasons = append(reasons, "the machine went down while it was in use, and what was not on disk yet is lost")
	}
	for _, name := range d.changed {
		reasons = append(reasons, fmt.Sprintf("files of stream %s were changed while it was not in use", name))
	}
	return append(reasons, d.lost(ends)...)
}

// lost returns what is missing of streams.
func (d *Dir) lost(ends map[string]End) (reasons []string) {
	for _, name := range d.cutStreams() {
		reasons = append(reasons, fmt.Sprintf("stream %s was damaged, and messages in it are lost", name))
	}
	for _, name := range slices.Sorted(maps.Keys(d.mark.Streams)) {
		acknowledged := d.mark.Streams[name]
		switch end, ok := ends[name]; {
		case !ok && acknowledged > 0:
			reasons = append(reasons, fmt.Sprintf("stream %s is missing or cannot be read", name))
		case end.Last < acknowledged:
			reasons = append(reasons, fmt.Sprintf("stream %s ends at %d, and %d was acknowledged", name, end.Last, acknowledged))
		}
	}
	return reasons
}

// Resettle is Settle after the store was opened again by the same process: only what is missing
// counts.
func (d *Dir) Resettle(ends map[string]End, acknowledged map[string]uint64, now time.Time) (reasons []string, err error) {
	defer d.forgetBlocks()
	d.note(acknowledged)
	if reasons = d.lost(ends); len(reasons) > 0 {
		d.raise(now)
	}
	return reasons, d.settled(ends)
}

// Note writes what has been acknowledged into the mark. It does not wait for the disk: a crash of
// the process loses nothing of it, and after one of the machine the generation rises anyway.
func (d *Dir) Note(acknowledged map[string]uint64) error {
	d.note(acknowledged)
	return d.writeMark(false)
}

func (d *Dir) note(acknowledged map[string]uint64) {
	for name, seq := range acknowledged {
		d.mark.Streams[name] = max(d.mark.Streams[name], seq)
	}
}

func (d *Dir) markClean(acknowledged map[string]uint64) (err error) {
	d.note(acknowledged)
	if d.mark.Files, err = d.digests(); err != nil {
		return err
	}
	d.mark.Clean = true
	return d.writeMark(true)
}

func (d *Dir) writeMark(sync bool) error {
	content, err := json.MarshalIndent(&d.mark, "", "  ")
	if err != nil {
		return err
	}
	if err := d.replace("mark", append(content, '\n'), sync); err != nil {
		return d.fault(err)
	}
	return nil
}
