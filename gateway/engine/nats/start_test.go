package nats

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCannotStart is about directories with which the server does not start, each with one line that says
// why.
func TestCannotStart(t *testing.T) {
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name string
		do   func(t *testing.T, s *diskRig)
		want string // after the directory
	}{
		{name: "it is a file", want: "not a directory", do: func(t *testing.T, s *diskRig) {
			s.moved(t.TempDir() + "/file")
			write(s.dir, "")
		}},
		{name: "it lies below a file", want: "not a directory", do: func(t *testing.T, s *diskRig) {
			write(s.dir+"/file", "")
			s.moved(s.dir + "/file/data")
		}},
		{name: "everybody may write", want: "mode 0777 lets everybody write to it; use chmod 700, or name a directory below it, which is created", do: func(t *testing.T, s *diskRig) {
			os.Chmod(s.dir, 0o777)
		}},
		{name: "it is read-only", want: "lock: read-only file system", do: func(t *testing.T, s *diskRig) {
			dir := mount(t, 1<<20)
			s.moved(dir + "/data")
			os.Mkdir(s.dir, 0o700)
			if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
				t.Skip(err)
			}
		}},
		{name: "its parent is read-only", want: "read-only file system", do: func(t *testing.T, s *diskRig) {
			dir := mount(t, 1<<20)
			s.moved(dir + "/data")
			if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
				t.Skip(err)
			}
		}},
		{name: "it is full", want: "lock: no space left on device", do: func(t *testing.T, s *diskRig) {
			dir := mount(t, 1<<20)
			s.moved(dir + "/data")
			os.Mkdir(s.dir, 0o700)
			fill(t, dir, 0)
		}},
		{name: "it is full but for the lock", want: "no space left on device", do: func(t *testing.T, s *diskRig) {
			dir := mount(t, 1<<20)
			s.moved(dir + "/data")
			s.start()
			s.create("S")
			s.publish("S", 5)
			s.close()
			fill(t, dir, 0)
			os.Truncate(s.dir+"/lock", 4096) // its page stays
		}},
		{name: "no permission", want: "permission denied", do: func(t *testing.T, s *diskRig) {
			runtime.LockOSThread() // the user of file accesses is the thread's
			if err := syscall.Setfsuid(65534); err != nil {
				t.Skip(err)
			}
			t.Cleanup(func() {
				syscall.Setfsuid(os.Getuid()) // ignored: the thread ends with the test
				runtime.UnlockOSThread()
			})
			if f, err := os.Open(s.dir); err == nil {
				f.Close()
				t.Skip("another user may read everything")
			}
		}},
		{name: "a newer version", want: "written by a newer version of sluice (format 2; this one knows 1): run that version or use another directory", do: func(t *testing.T, s *diskRig) {
			write(s.dir+"/mark", `{"version": 2, "clean": "in words"}`)
		}},
		{name: "no name", want: "name: malformed; it contains the node's name, and is drawn anew if you remove it", do: func(t *testing.T, s *diskRig) {
			write(s.dir+"/name", "two words\n")
		}},
		{name: "the store is a file", want: "jetstream/$G/streams: not a directory", do: func(t *testing.T, s *diskRig) {
			write(s.dir+"/jetstream", "")
		}},
		{name: "the store cannot be created", want: "Can't start JetStream: could not create storage directory - mkdir {dir}/jetstream: file exists", do: func(t *testing.T, s *diskRig) {
			if err := os.Symlink("nowhere", s.dir+"/jetstream"); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newDiskRig(t)
			os.Mkdir(s.dir, 0o700)
			test.do(t, s)
			_, err := startEmbedded(s.cfg)
			if err == nil {
				t.Fatal("it started")
			}
			start, end := "data directory "+s.dir+": ", strings.ReplaceAll(test.want, "{dir}", s.dir)
			if got := err.Error(); !strings.HasPrefix(got, start) || !strings.HasSuffix(got, end) || strings.Contains(got, "\n") {
				t.Errorf("%q, want %q", got, start+end)
			}
		})
	}
}

// TestAccessOfOthersIsAWarning is about directories that others have access to, as volumes of containers are.
func TestAccessOfOthersIsAWarning(t *testing.T) {
	t.Parallel()
	s := newDiskRig(t)
	for _, test := range []struct {
		mode os.FileMode
		want int
	}{{0o755, 1}, {0o770, 1}, {0o701, 1}, {0o700, 0}} {
		os.Mkdir(s.dir, 0o700) // error ignored: it exists
		if err := os.Chmod(s.dir, test.mode); err != nil {
			t.Fatal(err)
		}
		s.start()
		if n := len(s.log.lines(fmt.Sprintf("mode %#o gives others access", test.mode))); n != test.want {
			t.Errorf("mode %#o: %d warnings, want %d: %q", test.mode, n, test.want, s.log.lines(""))
		}
		s.close()
	}
}

// TestLessRoomThanReserved starts with a smaller bound than the one with which streams were created, which
// must not keep them from being made smaller.
func TestLessRoomThanReserved(t *testing.T) {
	t.Parallel()
	s := newDiskRig(t)
	s.start()
	s.createLarge("S")
	s.publish("S", 10)
	s.close()
	s.cfg.dataMax = 1 << 20
	s.start()
	s.createOf("S", 1<<20)
	if n := s.stored("S"); n != 10 {
		t.Errorf("%d messages, want 10", n)
	}
}

// moved has the server use another directory.
func (s *diskRig) moved(dir string) { s.dir, s.cfg.dir = dir, dir }
