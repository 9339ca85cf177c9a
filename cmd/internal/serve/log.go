package serve

import (
	"io"
	"log/slog"

	"sluice/cmd/internal/cli"
)

// newLogger returns a logger in one of the formats auto, text and json. plain reports
// whether a person is reading: text on a terminal.
func newLogger(w io.Writer, level, format string) (logger *slog.Logger, plain bool) {
	terminal := cli.IsTerminal(w)
	levels := map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}
	options := &slog.HandlerOptions{Level: levels[level]}
	if format == "json" || format == "auto" && !terminal {
		return slog.New(slog.NewJSONHandler(w, options)), false
	}
	return slog.New(slog.NewTextHandler(w, options)), terminal
}
