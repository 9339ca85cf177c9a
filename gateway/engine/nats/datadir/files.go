package datadir

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The server finds damage in a stream's files only where it reads them. After a clean end it
// trusts its index, which vouches for the end of the last block alone; a damaged block shows at
// some later read, or as messages that are not there. So a clean end notes a digest of the
// streams' files (their names, sizes and times, not their content), and a start that finds
// another one, or follows an unclean end, takes the index away: then the server reads all blocks,
// and cuts off what follows a damaged record. It does not report that, but the block's file is
// shorter than before.

// streamsDir is where the server has its streams, of its only account.
var streamsDir = filepath.Join("jetstream", "$G", "streams")

// index is the server's file of a stream's state. It is written at its end and now and then, and
// may be missing.
var index = filepath.Join("msgs", "index.db")

// block is a file of messages as it was before the server opened it. The server replaces a block that it
// compacts, and appends to one: it never makes one shorter but to cut off what is damaged, and then it may
// remove it.
type block struct {
	stream, path string
	info         fs.FileInfo
	file         *os.File // shows what became of one that was removed; nil: one that is gone counts as cut
}

// heldMost bounds the blocks that are held open.
var heldMost = 1000 // a variable for tests

// cut reports whether the server has cut it.
func (b *block) cut() bool {
	var now fs.FileInfo
	var err error
	if b.file != nil {
		now, err = b.file.Stat()
	} else if now, err = os.Lstat(b.path); err == nil && !os.SameFile(now, b.info) {
		return false // replaced
	}
	return err != nil || now.Size() < b.info.Size()
}

// streams returns the names of the directories of streams.
func (d *Dir) streams() (names []string, err error) {
	entries, err := os.ReadDir(filepath.Join(d.path, streamsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") { // it is being removed
			names = append(names, e.Name())
		}
	}
	return names, err
}

// inspect looks at the streams' files before the server opens them.
func (d *Dir) inspect() error {
	names, err := d.streams()
	if err != nil {
		return err
	}
	if d.fresh = len(names) == 0; d.fresh {
		return nil
	}
	found, err := d.digests()
	if err != nil {
		return err
	}
	for _, name := range names {
		same := found[name] == d.mark.Files[name]
		if d.mark.Clean && same {
			continue
		}
		if d.mark.Clean {
			d.changed = append(d.changed, name)
		}
		if err := d.distrust(name); err != nil {
			return err
		}
	}
	return nil
}

// Reserved returns the bytes that the streams may have together.
func (d *Dir) Reserved() (n int64) {
	names, _ := d.streams() // ignored: Open has read them
	for _, name := range names {
		var description struct {
			MaxBytes int64 `json:"max_bytes"`
		}
		content, err := os.ReadFile(filepath.Join(d.path, streamsDir, name, "meta.inf"))
		if err == nil && json.Unmarshal(content, &description) == nil { // else the server does not have it, either
			n += max(description.MaxBytes, 0)
		}
	}
	return n
}

// Distrust has the server read all blocks of all streams when it opens them next.
func (d *Dir) Distrust() error {
	names, err := d.streams()
	for _, name := range names {
		err = errors.Join(err, d.distrust(name))
	}
	if err != nil {
		return d.fault(err)
	}
	return nil
}

// distrust has the server read all blocks of a stream.
func (d *Dir) distrust(stream string) error {
	root := filepath.Join(d.path, streamsDir, stream)
	if err := os.Remove(filepath.Join(root, index)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	paths, err := filepath.Glob(filepath.Join(root, "msgs", "*.blk"))
	if err != nil {
		return err
	}
	last := 0
	for _, path := range paths {
		last = max(last, blockNumber(path))
	}
	for _, path := range paths {
		if blockNumber(path) == last {
			continue // a kill may have cut off its end; the mark says what must be there
		}
		b := block{stream: stream, path: path}
		if b.info, err = os.Lstat(path); err != nil {
			return err
		}
		if len(d.blocks) < heldMost {
			b.file, _ = os.Open(path) // ignored: there may be too many open files already
		}
		d.blocks = append(d.blocks, b)
	}
	return nil
}

// setAside renames the descriptions of streams that the server could not read, so that they can be
// created anew, with the messages that are there. The server would keep the unreadable one.
func (d *Dir) setAside(ends map[string]End) error {
	names, err := d.streams()
	for _, name := range names {
		if _, ok := ends[name]; ok {
			continue
		}
		path := filepath.Join(d.path, streamsDir, name, "meta.inf")
		if moved := os.Rename(path, path+".unreadable"); !errors.Is(moved, fs.ErrNotExist) {
			err = errors.Join(err, moved)
		}
	}
	return err
}

// blockNumber returns N of N.blk.
func blockNumber(path string) (n int) {
	fmt.Sscanf(filepath.Base(path), "%d.blk", &n) // ignored: 0 then
	return n
}

// cutStreams returns the streams that have blocks which the server has cut.
func (d *Dir) cutStreams() (names []string) {
	for i := range d.blocks {
		if b := &d.blocks[i]; b.cut() {
			names = append(names, b.stream)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (d *Dir) forgetBlocks() {
	for i := range d.blocks {
		d.blocks[i].file.Close() // ignored: it was only read, or there is none
	}
	d.blocks = nil
}

// digests returns a digest of the files of each stream.
func (d *Dir) digests() (map[string]string, error) {
	names, err := d.streams()
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, name := range names {
		h := sha256.New()
		err := filepath.WalkDir(filepath.Join(d.path, streamsDir, name), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			fmt.Fprintln(h, path[len(d.path):], info.Size(), info.ModTime().UnixNano())
			return nil
		})
		if err != nil {
			return nil, err
		}
		all[name] = hex.EncodeToString(h.Sum(nil)[:16])
	}
	return all, nil
}
