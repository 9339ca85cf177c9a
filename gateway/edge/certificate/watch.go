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
	bad, told := 0, ""
	var warned time.Time
	for changed := true; ; {
		if now := time.Now(); changed || now.Sub(warned) >= warnEvery {
			warned = now
			for _, text := range s.Warnings(now) {
				log.Warn(text)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var err error
		if changed, err = s.Reload(); err != nil {
			if bad++; bad > 1 && told != err.Error() {
				told = err.Error()
				log.Error("certificates cannot be reloaded: the last good ones stay in use", "error", err, "certificate", s)
			}
			continue
		}
		bad, told = 0, ""
		if changed {
			log.Info("certificates reloaded", "certificate", s)
		}
	}
}
