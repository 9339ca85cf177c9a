package nats

import (
	"log/slog"
	"strings"
	"sync"
)

// logLines is what was logged.
type logLines struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write drops what nats-server says of a machine that is slow.
func (l *logLines) Write(p []byte) (int, error) {
	if text := string(p); strings.Contains(text, "took too long") || strings.Contains(text, "processing time") {
		return len(p), nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logLines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logLines) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Reset()
}

// lines returns the lines that contain a word.
func (l *logLines) lines(word string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, word) {
			found = append(found, line)
		}
	}
	return found
}
