package main

import (
	"io"
	"log/slog"
	"os"
)

// newLogger gives the log in one of the formats auto, text and json. plain says
// that a person is reading along: text on a terminal.
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

// isTerminal reports whether a person may be looking. A character device that
// is no terminal, /dev/null above all, does no harm here.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
