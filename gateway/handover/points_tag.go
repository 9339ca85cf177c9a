//go:build points

package handover

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// EnvPoints is the variable with a directory. A file "old.POINT" or "new.POINT" there says what happens to that process
// when it comes to the point, once: "kill", "stop", "note" or "hold", which lasts until the directory has no file "hold".
// A line of the log says that it has come there. The build tag is for tests of the command.
const EnvPoints = "_SLUICE_POINTS"

func points(role string) func(string) {
	dir := os.Getenv(EnvPoints)
	return func(point string) {
		if dir == "" {
			return
		}
		path := filepath.Join(dir, role+"."+point)
		action, err := os.ReadFile(path)
		if err != nil || os.Remove(path) != nil {
			return
		}
		fmt.Fprintf(os.Stderr, "{\"msg\":\"%s %s: %s\",\"pid\":%d}\n", role, point, action, os.Getpid())
		switch string(action) {
		case "kill":
			syscall.Kill(os.Getpid(), syscall.SIGKILL) // ignored: it does not return
			select {}
		case "stop":
			syscall.Kill(os.Getpid(), syscall.SIGSTOP) // ignored: likewise, until SIGCONT
			time.Sleep(100 * time.Millisecond)         // another thread may have got it
		case "hold":
			for {
				if _, err := os.Stat(filepath.Join(dir, "hold")); err != nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
		}
	}
}
