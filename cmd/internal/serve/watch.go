package serve

import (
	"context"
	"maps"
	"os"
	"strings"
	"syscall"
	"time"

	"sluice/gateway"
)

// changeInterval is how often the files of the configuration are checked for changes.
const changeInterval = time.Second

// reloadOnChange reloads when the files of the configuration change, until ctx ends, as long as --reload-on-change is
// on. It looks at the files behind their paths instead of watching directories, so that it works however links are
// swapped, as Kubernetes does.
func (s *service) reloadOnChange(ctx context.Context) {
	tick := time.NewTicker(changeInterval)
	defer tick.Stop()
	var w watcher
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if s.current.Load().cfg.ReloadOnChange && w.due(s.look(), s.loadedFiles()) {
			s.reload(context.WithoutCancel(ctx), gateway.ReloadOptions{}) // ignored: it is logged
		}
	}
}

// files are paths with what identifies their content; a file that cannot be found is zero.
type files map[string]file

type file struct {
	inode, size int64
	changed     time.Time // also when it was renamed, or its owner or mode was changed
}

// watcher decides when to reload.
type watcher struct {
	seen files // as they were at the last look
}

// due reports whether to reload now: when the files are not those that were loaded, whether that failed or not, and are
// not being written any more as far as two looks can say.
func (w *watcher) due(now, loaded files) bool {
	settled := maps.Equal(now, w.seen)
	w.seen = now
	return settled && !maps.Equal(now, loaded)
}

// fileClock is how far the clock of files may be behind.
const fileClock = time.Second

// look returns the files of the configuration in use, and those of the one that was loaded last.
func (s *service) look() files {
	now := make(files)
	for _, path := range append(s.current.Load().paths(), s.attempt.Load().paths()...) {
		now[path] = file{}
		if info, err := os.Stat(path); err == nil { // else it is missing, or will be a fault
			st := info.Sys().(*syscall.Stat_t)
			now[path] = file{int64(st.Ino), st.Size, time.Unix(st.Ctim.Unix())}
		}
	}
	return now
}

// loadedFiles returns the files as they were when they were loaded.
func (s *service) loadedFiles() files {
	s.changing.Lock()
	defer s.changing.Unlock()
	return s.loaded
}

// noteFiles notes which files were loaded: before is what there was to see of them when that began. What this load has
// named for the first time is noted as it is now, unless it may have changed since it was read. The caller holds
// changing.
func (s *service) noteFiles(before files, began time.Time) {
	loaded := make(files)
	for path, now := range s.look() {
		if was, ok := before[path]; ok {
			loaded[path] = was
		} else if now.changed.Before(began.Add(-fileClock)) {
			loaded[path] = now
		}
	}
	s.loaded = loaded
}

// paths returns the paths of the files that a reload reads.
func (c *configured) paths() (paths []string) {
	for _, opt := range c.opts.List {
		if opt.Meta == "FILE" && (opt.Reload == reloadable || opt.Name == "config") && opt.Text != "" {
			paths = append(paths, strings.Split(opt.Text, ",")...)
		}
	}
	for path := range c.plan.Hooks.sources.files {
		paths = append(paths, path)
	}
	return paths
}
