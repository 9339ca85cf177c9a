package datadir

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestCutBlocks is about what a server does to its blocks while it reads them, and what of it is a loss.
func TestCutBlocks(t *testing.T) {
	for _, held := range []int{1000, 0} {
		d := &Dir{path: t.TempDir()}
		write := func(path string, n int) {
			t.Helper()
			if err := os.WriteFile(path, make([]byte, n), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		block := func(stream string, n int) string {
			return filepath.Join(d.path, streamsDir, stream, "msgs", fmt.Sprintf("%d.blk", n))
		}
		streams := []string{"appended", "compacted", "cut", "emptied", "last", "removed", "same"}
		for _, stream := range streams {
			if err := os.MkdirAll(filepath.Dir(block(stream, 1)), 0o700); err != nil {
				t.Fatal(err)
			}
			for n := range 11 { // 9 is not the last one
				write(block(stream, n+1), 1000)
			}
		}
		heldMost = held
		if err := d.Distrust(); err != nil {
			t.Fatal(err)
		}
		heldMost = 1000
		write(block("appended", 9), 1200)
		write(block("compacted", 9)+".tmp", 500)
		for _, err := range []error{
			os.Rename(block("compacted", 9)+".tmp", block("compacted", 9)),
			os.Truncate(block("cut", 9), 999),
			os.Truncate(block("emptied", 9), 0), os.Remove(block("emptied", 9)),
			os.Truncate(block("last", 11), 0),
			os.Remove(block("removed", 9)),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		want := []string{"cut", "emptied"}
		if held == 0 { // why it is gone is unknown
			want = append(want, "removed")
		}
		if diff := cmp.Diff(want, d.cutStreams()); diff != "" {
			t.Errorf("%d held: %s", held, diff)
		}
		d.forgetBlocks()
	}
}
