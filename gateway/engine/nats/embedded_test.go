package nats

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"sluice/gateway/clienttest"
)

// TestGeneration is about what happens to the directory between two starts, and whether positions
// from before are good after it.
func TestGeneration(t *testing.T) {
	t.Parallel()
	dead := func(m map[string]any) { m["clean"], m["boot"] = false, "another" }
	for _, test := range []struct {
		name    string
		do      func(s *diskRig)
		always  bool
		rises   string // in the reason; "" if it does not
		missing bool   // messages are
	}{
		{name: "nothing"},
		{name: "the process was killed", do: func(s *diskRig) { s.editMark(set("clean", false)) }},
		{name: "the machine was rebooted", do: func(s *diskRig) { s.editMark(set("boot", "another")) }},
		{name: "the machine went down", do: func(s *diskRig) { s.editMark(dead) }, rises: "the machine went down"},
		{name: "the machine went down, and each write was synced", do: func(s *diskRig) { s.editMark(dead) }, always: true},
		{name: "the machine went down, and messages are gone", do: func(s *diskRig) {
			s.editMark(dead)
			cut(t, s.blocks("S")[2], 2000)
		}, rises: "the machine went down", missing: true},
		{name: "messages are gone although each write was synced", do: func(s *diskRig) {
			s.editMark(dead)
			cut(t, s.blocks("S")[2], 2000)
		}, always: true, rises: "300 was acknowledged", missing: true},
		{name: "more was acknowledged", do: func(s *diskRig) { s.editMark(set("acknowledged", map[string]any{"S": 301})) }, rises: "301 was acknowledged"},
		{name: "the mark is missing", do: func(s *diskRig) { os.Remove(s.dir + "/mark") }, rises: "mark is missing"},
		{name: "the mark is empty", do: func(s *diskRig) { os.Truncate(s.dir+"/mark", 0) }, rises: "mark is unreadable"},
		{name: "the mark is cut off", do: func(s *diskRig) { cut(t, s.dir+"/mark", 10) }, rises: "mark is unreadable"},
		{name: "it is a copy", do: func(s *diskRig) {
			dir := s.dir + "-copy"
			if err := os.CopyFS(dir, os.DirFS(s.dir)); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			s.dir, s.cfg.dir = dir, dir
		}, rises: "it is a copy"},
		{name: "it is a copy whose files look the same", do: func(s *diskRig) {
			s.editMark(func(m map[string]any) { m["lock"].(map[string]any)["inode"] = 1 })
		}, rises: "it is a copy"},
		{name: "its device has another number", do: func(s *diskRig) {
			s.editMark(func(m map[string]any) { m["lock"].(map[string]any)["device"] = 1 })
		}},
		{name: "a block is cut off at its end", do: func(s *diskRig) { cut(t, s.blocks("S")[2], 2000) }, rises: "files of stream S were changed", missing: true},
		{name: "a record is overwritten", do: func(s *diskRig) { overwrite(t, s.blocks("S")[0], 1000, 40) }, rises: "stream S was damaged", missing: true},
		{name: "a record is overwritten, and the process was killed", do: func(s *diskRig) {
			s.editMark(set("clean", false))
			overwrite(t, s.blocks("S")[0], 1000, 40)
		}, rises: "stream S was damaged", missing: true},
		{name: "a block is overwritten from its start", do: func(s *diskRig) { overwrite(t, s.blocks("S")[1], 0, 5000) }, rises: "stream S was damaged", missing: true},
		{name: "the last block is overwritten, and the process was killed", do: func(s *diskRig) {
			s.editMark(set("clean", false))
			overwrite(t, s.blocks("S")[2], 0, 50)
		}, rises: "300 was acknowledged", missing: true},
		{name: "a block is gone", do: func(s *diskRig) { os.Remove(s.blocks("S")[1]) }, rises: "files of stream S were changed", missing: true},
		{name: "the description of a stream is overwritten", do: func(s *diskRig) {
			overwrite(t, s.dir+"/jetstream/$G/streams/S/meta.inf", 0, 20)
		}, rises: "stream S is missing or cannot be read"},
		{name: "the index of a stream is gone", do: func(s *diskRig) {
			s.editMark(set("clean", false))
			os.Remove(s.dir + "/jetstream/$G/streams/S/msgs/index.db")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newDiskRig(t)
			s.cfg.syncAlways = test.always
			s.cfg.now = func() time.Time { return time.Unix(7000, 0) }
			s.start()
			s.create("S")
			s.publish("S", 300)
			s.create("T")
			s.publish("T", 1)
			if n := len(s.blocks("S")); n != 3 {
				t.Fatalf("%d blocks, want 3", n)
			}
			if g := s.e.generation(); g != 1 {
				t.Errorf("generation %d of a new directory, want 1", g)
			}
			s.close()
			if test.do != nil {
				test.do(s)
			}
			s.start()
			want := uint64(1)
			if test.rises != "" {
				want = 7000
			}
			if g := s.e.generation(); g != want {
				t.Errorf("generation %d, want %d", g, want)
			}
			lines := s.log.lines("")
			if test.rises == "" && len(lines) > 0 {
				t.Errorf("log: %q, want none", lines)
			}
			if test.rises != "" && (len(lines) != 1 || !strings.Contains(lines[0], test.rises)) {
				t.Errorf("log: %q, want one line with %q", lines, test.rises)
			}
			s.create("S") // where its description is lost it is created anew
			if stored := s.stored("S"); (stored < 300) != test.missing {
				t.Errorf("%d messages, missing: want %t", stored, test.missing)
			}
			s.publish("S", 1)
			s.close()
			s.start()
			if g := s.e.generation(); g != want {
				t.Errorf("generation %d after one more start, want %d: %q", g, want, s.log.lines(""))
			}
		})
	}
}

// TestSecondProcessIsRefused starts a second server in the directory, which is one of another open
// file: for flock that is another process.
func TestSecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	s := newDiskRig(t)
	s.start()
	_, err := startEmbedded(s.cfg)
	if want := fmt.Sprintf("data directory %s: in use by process %d; end it, or use another directory", s.dir, os.Getpid()); err == nil || err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	s.close()
	s.start()
}

// TestAcknowledgementsAreMarked waits for the mark to follow, at once after many and soon after
// one.
func TestAcknowledgementsAreMarked(t *testing.T) {
	t.Parallel()
	s := newDiskRig(t)
	s.cfg.look = time.Hour // or else the keeper comes by
	s.start()
	want := map[string]any{}
	for _, seq := range []uint64{1, 2, 500, 2000, 1999} {
		s.e.acknowledged("S", seq)
		want["S"] = max(number(want["S"]), float64(seq))
		clienttest.WaitFor(t, fmt.Sprint("the mark to have ", want), func() bool {
			content, err := os.ReadFile(s.dir + "/mark")
			if err != nil {
				t.Fatal(err)
			}
			var m struct{ Acknowledged map[string]any }
			if err := json.Unmarshal(content, &m); err != nil {
				t.Fatal(err) // it is replaced as a whole
			}
			return maps.Equal(m.Acknowledged, want)
		})
	}
}

// TestAcknowledgedAllocatesNothing is about what a lane calls for each publication.
func TestAcknowledgedAllocatesNothing(t *testing.T) {
	e := &embedded{wake: make(chan struct{}, 1)} // without its keeper, which would be counted, too
	e.marks.Store(&map[string]*endMark{})
	e.acknowledged("S", 1)
	seq := uint64(1)
	if n := testing.AllocsPerRun(3*noteMost, func() { seq++; e.acknowledged("S", seq) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func number(v any) float64 { f, _ := v.(float64); return f }

// TestStreamThatNobodyCreatesAgain leaves a stream's files without a description, which is no reason to restart the
// server, or to doubt the directory again.
func TestStreamThatNobodyCreatesAgain(t *testing.T) {
	t.Parallel()
	s := newDiskRig(t)
	s.start()
	s.create("S")
	s.publish("S", 10)
	s.close()
	overwrite(t, s.dir+"/jetstream/$G/streams/S/meta.inf", 0, 20)
	s.start()
	if ill := s.e.illness(); ill != "" {
		t.Errorf("illness: %s", ill)
	}
	s.close()
	s.start()
	if lines := s.log.lines(""); len(lines) > 0 {
		t.Errorf("log: %q, want none", lines)
	}
}
