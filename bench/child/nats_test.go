package child

import (
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// natsBinaries are the oldest and the newest nats-server that are supported: Debian's, if it is
// installed, and the module's.
func natsBinaries(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{"module's": t.TempDir() + "/nats-server"}
	if err := BuildNATS(t.Context(), all["module's"]); err != nil {
		t.Fatal(err)
	}
	if path, err := exec.LookPath("nats-server"); err == nil {
		all["Debian's"] = path
	}
	return all
}

func TestNATSServersOfAClusterComeBack(t *testing.T) {
	t.Parallel()
	for name, binary := range natsBinaries(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all, err := StartNATS(NATSOptions{Binary: binary, Dir: t.TempDir(), Servers: 3})
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range all {
				defer func() { s.Kill() }()
			}
			all[0].Kill()
			if all[0].Healthy() {
				t.Error("a server that was killed is healthy")
			}
			if err := all[0].Again(); err != nil {
				t.Fatal(err)
			}
			if err := all[0].ready(readyWithin); err != nil {
				t.Fatal(err)
			}
			all[1].Signal(syscall.SIGSTOP)
			for end := time.Now().Add(readyWithin); all[1].Healthy(); { // its threads may be stopped a moment later
				if time.Now().After(end) {
					t.Fatal("a server that stands still is healthy")
				}
			}
			all[1].Signal(syscall.SIGCONT)
			for _, s := range all {
				if err := s.ready(readyWithin); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestNATSServersThatCannotStartAreReported(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	all, err := StartNATS(NATSOptions{Binary: "/bin/false", Dir: t.TempDir(), Servers: 1})
	if err == nil || len(all) > 0 || time.Since(begun) > readyWithin {
		t.Errorf("got %v, %v after %v", all, err, time.Since(begun))
	}
}
