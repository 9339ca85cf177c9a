package datadir

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestLook(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	r := Look(path)
	if r.Err != nil || !r.New || r.Free == 0 || r.Sync <= 0 || r.SyncMost < r.Sync || r.Name != "" {
		t.Errorf("a new directory: %+v", r)
	}
	if _, err := os.Stat(filepath.Dir(path)); err == nil {
		t.Error("Look created it")
	}

	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Settle(nil, false, time.Now()); err != nil {
		t.Fatal(err)
	}
	if r := Look(path); r.Err != nil || r.New || r.Holder != os.Getpid() || r.Generation != 1 || r.Name != d.Name() {
		t.Errorf("one that is in use: %+v", r)
	}
	if err := d.Close(true, nil); err != nil {
		t.Fatal(err)
	}
	before := names(t, path)
	if r := Look(path); r.Err != nil || r.Holder != 0 || r.Warning != "" || r.Mark != "" {
		t.Errorf("one that is not in use: %+v", r)
	}
	if after := names(t, path); after != before {
		t.Errorf("files: %s, before: %s", after, before)
	}

	stream := filepath.Join(path, streamsDir, "S", "msgs")
	if err := os.MkdirAll(stream, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(stream, "1.blk"), make([]byte, 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(path, "mark")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o750); err != nil {
		t.Fatal(err)
	}
	if r := Look(path); r.Err != nil || r.Used != 5000 || r.Mark != "the mark is missing" || !strings.Contains(r.Warning, "0750") {
		t.Errorf("one with a stream and without its mark: %+v", r)
	}
	if err := os.WriteFile(filepath.Join(path, "mark"), []byte(`{"version": 7}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := Look(path); r.Err == nil || !strings.Contains(r.Err.Error(), "newer version") {
		t.Errorf("one of a newer version: %v", r.Err)
	}
	if r := Look(filepath.Join(path, "mark")); r.Err == nil || !strings.Contains(r.Err.Error(), "not a directory") {
		t.Errorf("a file: %v", r.Err)
	}
}

func names(t *testing.T, path string) string {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

// A process that is being started has all files of its parent for a moment, the lock among them.
func TestClosingReleasesALockThatAChildHas(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Dup(int(d.lock.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd) // ignored: it was not used
	if err := d.Close(false, nil); err != nil {
		t.Fatal(err)
	}
	if d, err = Open(path); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(false, nil); err != nil {
		t.Error(err)
	}
}
