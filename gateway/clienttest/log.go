package clienttest

import (
	"bytes"
	"strings"
	"sync"
)

// Records is a log that can be read while it is written.
type Records struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (r *Records) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.Write(p)
}

func (r *Records) Text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.String()
}

func (r *Records) Has(text string) bool { return strings.Contains(r.Text(), text) }
