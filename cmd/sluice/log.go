package main

import (
	"io"
	"log/slog"
	"os"
)

// newLogger returns a logger in one of the formats auto, text and json. plain reports
// whether a person is reading: text on a terminal.
func newLogger(w io.Writer, level, format string) (logger *slog.Logger, plain bool) {
	terminal := isTerminal(w)
	levels := map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}
	options := &slog.HandlerOptions{Level: levels[level]}
	if format == "json" || format == "auto" && !terminal {
		return slog.New(slog.NewJSONHandler(w, options)), false
	}
	return slog.New(slog.NewTextHandler(w, options)), terminal
}

// isTerminal reports whether a person may be reading. A character device that is not a
// terminal, such as /dev/null, does no harm here.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
