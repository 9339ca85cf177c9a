package nats

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"

	"sluice/gateway/clienttest"
	"sluice/gateway/engine/nats/datadir"
	"sluice/gateway/engine/nats/natstest"
)

// diskRig is an embedded server in a directory, and a client of it.
type diskRig struct {
	t   testing.TB
	dir string
	cfg embeddedConfig
	log logLines

	e  *embedded
	nc *natsgo.Conn
	js jetstream.JetStream
}

func newDiskRig(t testing.TB) *diskRig { return diskRigIn(t, filepath.Join(natstest.Dir(t), "data")) }

func diskRigIn(t testing.TB, dir string) *diskRig {
	s := &diskRig{t: t, dir: dir}
	s.cfg = embeddedConfig{dir: s.dir, dataMax: 1 << 30, maxMessage: 64 << 10, log: s.log.logger()}
	t.Cleanup(func() {
		if s.e != nil {
			s.close()
		}
	})
	return s
}

// start starts the server and connects to it.
func (s *diskRig) start() {
	s.t.Helper()
	s.log.reset()
	e, err := startEmbedded(s.cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.e = e
	if s.nc, err = natsgo.Connect("", natsgo.InProcessServer(e), natsgo.Timeout(clienttest.Patience), natsgo.MaxReconnects(-1), natsgo.ReconnectWait(10*time.Millisecond)); err != nil {
		s.t.Fatal(err)
	}
	if s.js, err = jetstream.New(s.nc); err != nil {
		s.t.Fatal(err)
	}
}

// close ends the server in good order.
func (s *diskRig) close() {
	s.t.Helper()
	e := s.e
	s.e = nil
	natstest.Close(s.nc)
	if err := e.close(within(s.t)); err != nil {
		s.t.Error(err)
	}
}

// within bounds a wait that no machine is too slow for.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second) // not the test's, which is over in its cleanup
	t.Cleanup(cancel)
	return ctx
}

// create creates a stream, if there is none, whose blocks have 32 KB.
func (s *diskRig) create(name string) {
	s.t.Helper()
	s.createOf(name, 120_000)
}

// createLarge creates one that keeps everything.
func (s *diskRig) createLarge(name string) {
	s.t.Helper()
	s.createOf(name, 100<<20)
}

func (s *diskRig) createOf(name string, bytes int64) {
	s.t.Helper()
	_, err := s.js.CreateOrUpdateStream(within(s.t), jetstream.StreamConfig{Name: name, Subjects: []string{name + ".>"}, MaxBytes: bytes, AllowDirect: true})
	if err != nil {
		s.t.Fatal(err)
	}
}

// publish publishes n messages of 250 bytes and notes their acknowledgements.
func (s *diskRig) publish(stream string, n int) {
	s.t.Helper()
	for range n {
		ack, err := s.js.Publish(within(s.t), stream+".a", bytes.Repeat([]byte("x"), 250))
		if err != nil {
			s.t.Fatal(err)
		}
		s.e.acknowledged(ack.Stream, ack.Sequence)
	}
}

// stored returns how many messages a stream has.
func (s *diskRig) stored(stream string) uint64 {
	s.t.Helper()
	st, err := s.js.Stream(within(s.t), stream)
	if err != nil {
		s.t.Fatal(err)
	}
	return st.CachedInfo().State.Msgs
}

// blocks returns the files of a stream's messages.
func (s *diskRig) blocks(stream string) []string {
	s.t.Helper()
	paths, err := filepath.Glob(filepath.Join(s.dir, "jetstream", "$G", "streams", stream, "msgs", "*.blk"))
	if err != nil || len(paths) == 0 {
		s.t.Fatalf("no blocks of stream %s: %v", stream, err)
	}
	return paths
}

// overwrite writes zeros into a file.
func overwrite(t *testing.T, path string, at, n int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, n), at); err != nil {
		t.Fatal(err)
	}
}

// cut takes bytes off the end of a file.
func cut(t *testing.T, path string, n int64) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, info.Size()-n); err != nil {
		t.Fatal(err)
	}
}

// editMark changes the mark.
func (s *diskRig) editMark(edit func(map[string]any)) {
	s.t.Helper()
	path := filepath.Join(s.dir, "mark")
	content, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	var m map[string]any
	d := json.NewDecoder(bytes.NewReader(content))
	d.UseNumber() // a time in nanoseconds is no float64
	if err := d.Decode(&m); err != nil {
		s.t.Fatal(err)
	}
	edit(m)
	if content, err = json.Marshal(m); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// set returns an edit that sets one value.
func set(key string, value any) func(map[string]any) {
	return func(m map[string]any) { m[key] = value }
}

// mount mounts a file system in memory of so many bytes, and skips the test where that is not allowed.
func mount(t *testing.T, size int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("mode=700,size=%d", size)); err != nil {
		t.Skipf("cannot mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		natstest.Closed(t, dir)
		var err error
		clienttest.WaitFor(t, "the file system to be unmounted", func() bool {
			err = unix.Unmount(dir, 0)
			return err != unix.EBUSY
		})
		if err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// fill writes a file into dir until so many bytes are left.
func fill(t *testing.T, dir string, left int64) (path string) {
	t.Helper()
	free, err := datadir.Free(dir)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, free-left); err != nil {
		t.Fatal(err)
	}
	return path
}
