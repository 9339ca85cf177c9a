package certificate

import (
	"context"
	"log/slog"
	"time"
)

// warnEvery is how often a warning is repeated while its cause lasts.
const warnEvery = 24 * time.Hour

// Watch reloads the files every interval until ctx ends, and logs the result if they changed.
// It reads them instead of watching their directories: a few kilobytes cost nothing, and it
// works however links are swapped.
//
// Files are not replaced both at once, so a pair that does not fit is first looked at
// again; it is a fault when it is there the next time.
func (s *Store) Watch(ctx context.Context, interval time.Duration, log *slog.Logger) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	w := watcher{Store: s, log: log}
	w.warn(time.Now())
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			w.look(now)
		}
	}
}

// watcher is what Watch knows from one look to the next.
type watcher struct {
	*Store
	log    *slog.Logger
	bad    int       // looks since the files could last be reloaded
	told   string    // the error that was logged since then
	warned time.Time // when warnings were logged
}

// look reloads the files.
func (w *watcher) look(now time.Time) {
	changed, err := w.Reload()
	switch {
	case err == nil:
		w.bad, w.told = 0, ""
	case w.bad > 0 && w.told != err.Error():
		w.told = err.Error()
		w.log.Error("certificates cannot be reloaded: the last good ones stay in use", "error", err, "certificate", w.Store)
		fallthrough
	default:
		w.bad++
	}
	if changed {
		w.log.Info("certificates reloaded", "certificate", w.Store)
	}
	if changed || now.Sub(w.warned) >= warnEvery {
		w.warn(now)
	}
}

// warn logs the warnings that there are.
func (w *watcher) warn(now time.Time) {
	w.warned = now
	for _, text := range w.Warnings(now) {
		w.log.Warn(text)
	}
}
