package channel

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/gateway/saved"
)

var update = flag.Bool("update", false, "write the snapshots of testdata anew")

// snapshotFile is what this version saves of a space with channels of all kinds.
var snapshotFile = filepath.Join("testdata", fmt.Sprintf("snapshot-%d.bin", snapshotVersion))

// savedSpace returns a space, the names of its channels, and what is saved of it: a piece, the rest, and a log's tail.
func savedSpace(t *testing.T) (s *Space, names []string, parts [3][]byte) {
	s = snapSpaceOf(2 << 10)
	s.seed = 1
	publish := func(m *member, n int, binary bool) {
		for i := range n {
			c := m.Log().Channel()
			p := Publication{Payload: fmt.Appendf(nil, "%s %d", c.Name(), i), Binary: binary, From: uint64(i), At: int64(1000 + i)}
			if i == 1 {
				p.Extra = []byte("extra")
			}
			if _, err := c.Publish(&p, new(Scratch), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	kept, passing := join(t, s, "kept/text", padded(1)), join(t, s, "passing/text", padded(1))
	other, ended := join(t, s, "kept/binary", padded(1)), join(t, s, "passing/ended", padded(1))
	publish(kept, 2, false)
	publish(passing, 3, false)
	n := s.Snapshot()
	parts[0], _ = n.Copy(nil, 1<<20)
	publish(kept, 2, false)
	publish(other, 1, true)
	s.Leave(&ended.Reader)
	parts[1] = n.Rest(nil)
	parts[2], _ = passing.AppendTail(nil, 0, 0)
	return s, []string{"kept/text", "kept/binary", "passing/text", "passing/ended"}, parts
}

// splitSnapshot returns the parts that lie in a file.
func splitSnapshot(t *testing.T, b []byte) (parts [3][]byte) {
	r := saved.ReadPart("the file", b)
	for i := range parts {
		parts[i] = r.Bytes()
	}
	if err := r.End(); err != nil {
		t.Fatal(err)
	}
	return parts
}

// TestSnapshotFile restores what lies in testdata, which has the form of this version. What this version saves has
// that form, too: another one is another version.
func TestSnapshotFile(t *testing.T) {
	s, names, parts := savedSpace(t)
	if *update {
		var b []byte
		for _, p := range parts {
			b = saved.AppendBytes(b, p)
		}
		if err := os.WriteFile(snapshotFile, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(snapshotFile)
	if err != nil {
		t.Fatal(err)
	}
	want := splitSnapshot(t, b)
	for i := range parts { // channels come in any order
		slices.Sort(parts[i])
		sorted := slices.Clone(want[i])
		slices.Sort(sorted)
		if !bytes.Equal(parts[i], sorted) {
			t.Errorf("part %d has another form than version %d has had: raise snapshotVersion, and write a file for it with -update", i, snapshotVersion)
		}
	}
	to := snapSpaceOf(2 << 10)
	for _, p := range want[:2] {
		if err := to.Restore(p); err != nil {
			t.Fatal(err)
		}
	}
	m := join(t, to, "passing/text", padded(1))
	if _, err := m.RestoreTail(want[2], nil, 0); err != nil {
		t.Fatal(err)
	}
	if got := m.Between(0, m.Log().Head(), 0); got != 3 {
		t.Errorf("%d publications are in the log, want 3", got)
	}
	to.Restored()
	if diff := cmp.Diff(described(s, names), described(to, names)); diff != "" {
		t.Errorf("(- is the old space)\n%s", diff)
	}
}

// TestOtherSnapshots has parts of other versions, and damaged ones.
func TestOtherSnapshots(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "snapshot-*.bin"))
	if err != nil || !slices.Contains(files, snapshotFile) {
		t.Fatal(files, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, part := range splitSnapshot(t, b) {
			restore := func(b []byte) error {
				s := snapSpaceOf(2 << 10)
				if i < 2 {
					return s.Restore(b)
				}
				_, err := join(t, s, "passing/text", padded(1)).RestoreTail(b, nil, 0)
				return err
			}
			if file == snapshotFile {
				for _, version := range []byte{snapshotVersion - 1, snapshotVersion + 1} {
					part[0] = version
					want := fmt.Sprintf("the unknown version %d; version %d can be read", version, snapshotVersion)
					if err := restore(part); err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("part %d: %v, want an error with %q", i, err, want)
					}
				}
				part[0] = snapshotVersion
				if err := restore(part[:len(part)-1]); err == nil {
					t.Errorf("part %d is restored without its last byte", i)
				}
			} else if err := restore(part); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("the unknown version %d", part[0])) {
				t.Errorf("%s, part %d: %v, want that its version is unknown", file, i, err)
			}
		}
	}
}
