package nats

import (
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
)

// keeper is the goroutine that keeps the data directory: it writes the mark, looks at the free
// space, and restarts a server that can no longer write.
type keeper struct {
	*embedded
	noted      time.Time     // when the mark was written last
	unnoted    bool          // and that failed, which the log has
	looked     time.Time     // when the free space was looked at last
	every      time.Duration // how often that is done
	broken     string        // the error for which the server has to be restarted, "" for none
	restart    time.Time     // not before
	restartGap time.Duration
}

// keep runs until the server is closed.
func (e *embedded) keep() {
	defer close(e.done)
	k := &keeper{embedded: e, every: e.cfg.look}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-e.stop:
			return
		case <-timer.C:
		case <-e.wake:
		}
		now := time.Now()
		if now.Sub(k.looked) >= k.every {
			k.looked, k.every = now, e.look()
		}
		k.recover(now)
		wait := k.every - now.Sub(k.looked)
		if k.note(now) {
			e.asleep.Store(false)
			wait = min(wait, noteInterval)
		} else if e.asleep.Store(true); k.moved() { // it moved before the flag was seen
			wait = 0
		}
		timer.Reset(max(wait, noteLeast))
	}
}

// moved reports whether something was acknowledged that the mark does not have.
func (k *keeper) moved() bool {
	for _, m := range *k.marks.Load() {
		if m.acknowledged.Load() > m.noted.Load() {
			return true
		}
	}
	return false
}

// note writes the mark if it is behind, and reports whether it is or was.
func (k *keeper) note(now time.Time) bool {
	if !k.moved() {
		return false
	}
	if now.Sub(k.noted) < noteLeast {
		return true
	}
	k.noted = now
	highest := k.highest()
	if err := k.dir.Note(highest); err != nil {
		if !k.unnoted {
			k.cfg.log.Error("cannot write the mark: a later start may not notice lost messages", "error", err)
		}
		k.unnoted = true
		return true
	}
	k.unnoted = false
	marks := *k.marks.Load()
	for name, seq := range highest {
		marks[name].noted.Store(seq)
	}
	return true
}

// look looks at the free space, and returns when to do so again.
func (e *embedded) look() time.Duration {
	free, err := e.cfg.free(e.dir.Path())
	switch {
	case err != nil: // then a write will fail, too
		free = 0
	case free < roomLeast, e.full.Load() && free < roomLeast+roomAgain:
		err = fmt.Errorf("only %d MiB are free, %d MiB are needed", free>>20, roomLeast>>20)
	}
	if was := e.full.Swap(err != nil); was != (err != nil) {
		if err != nil {
			e.cfg.log.Error("low disk space: publishing to channels with a history fails until there is room", "directory", e.dir.Path(), "error", err)
		} else {
			e.cfg.log.Info("there is room again: publishing to channels with a history goes on", "directory", e.dir.Path(), "free_mib", free>>20)
		}
	}
	if free < roomNear {
		return roomLookNear
	}
	return e.cfg.look
}

// recover restarts the server if it cannot write any more, once there is room.
func (k *keeper) recover(now time.Time) {
	if k.failed.Swap(false) && k.broken == "" {
		if k.broken = k.illness(); k.broken != "" {
			k.restarting.Store(true)
			k.cfg.log.Error("the store failed: the embedded server is restarted when there is room", "directory", k.dir.Path(), "error", k.broken)
			if now.Sub(k.restart) > restartMost { // the last restart helped
				k.restartGap = restartLeast
			}
		}
	}
	if k.broken == "" || k.full.Load() || now.Before(k.restart) {
		return
	}
	k.restart = now.Add(k.restartGap)
	k.restartGap = min(2*k.restartGap, restartMost)
	if err := k.again(); err != nil {
		if k.broken != err.Error() {
			k.broken = err.Error()
			k.cfg.log.Error("the embedded server cannot be restarted yet", "error", err)
		}
		return
	}
	k.broken = ""
	k.restarting.Store(false)
	k.cfg.log.Info("the embedded server was restarted", "directory", k.dir.Path())
}

// again ends the server and starts one in its place.
func (k *keeper) again() error {
	k.shutdown()
	if err := k.dir.Distrust(); err != nil {
		return err
	}
	ends, err := k.start()
	if err != nil {
		return err
	}
	reasons, err := k.dir.Resettle(ends, k.highest(), k.cfg.now())
	if err != nil {
		k.shutdown()
		return err
	}
	k.settled(ends, reasons)
	return nil
}

// serverLog is the server's log. What it does at work is noise; warnings and errors are ours.
type serverLog struct {
	to     *slog.Logger
	failed func()      // called after an error
	quiet  atomic.Bool // while streams are recovered: the directory sums up what was lost
	fatal  atomic.Pointer[string]
}

func (l *serverLog) Noticef(format string, v ...any) { l.debug(format, v) }
func (l *serverLog) Debugf(format string, v ...any)  { l.debug(format, v) }
func (l *serverLog) Tracef(format string, v ...any)  { l.debug(format, v) }

func (l *serverLog) debug(format string, v []any) {
	l.to.Debug("nats-server: " + strings.TrimSpace(fmt.Sprintf(format, v...)))
}

func (l *serverLog) Warnf(format string, v ...any) {
	if l.quiet.Load() {
		l.debug(format, v)
		return
	}
	l.to.Warn("nats-server: " + fmt.Sprintf(format, v...))
	l.failed() // it reports some errors as warnings
}

func (l *serverLog) Errorf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	// Errors of writing come several times; the keeper has one line for them.
	if l.quiet.Load() || strings.Contains(text, "rite error") || strings.Contains(text, "failed to store") {
		l.to.Debug("nats-server: " + text)
	} else {
		l.to.Error("nats-server: " + text)
	}
	l.failed()
}

// Fatalf must not return in the server's own program; here Start returns after it.
func (l *serverLog) Fatalf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	l.fatal.CompareAndSwap(nil, &text)
	l.debug(format, v)
}
