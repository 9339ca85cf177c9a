package serve

import (
	"io"
	"log/slog"

	"sluice/cmd/internal/cli"
)

// levels are the words of --log-level.
var levels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}

// newLogger returns a logger in one of the formats auto, text and json. plain reports
// whether a person is reading: text on a terminal.
func newLogger(w io.Writer, level slog.Leveler, format string) (logger *slog.Logger, plain bool) {
	terminal := cli.IsTerminal(w)
	options := &slog.HandlerOptions{Level: level}
	if format == "json" || format == "auto" && !terminal {
		return slog.New(slog.NewJSONHandler(w, options)), false
	}
	return slog.New(slog.NewTextHandler(w, options)), terminal
}
