package console

import (
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"time"
)

const (
	sessionTime = 12 * time.Hour
	sessionsMax = 256 // beyond it, the oldest ends
)

// sessions are the sessions of browsers that have logged in.
type sessions struct {
	mu sync.Mutex
	// Guarded by mu: when each ends. By the hash of its id, so that the time that a look-up takes
	// says nothing about an id.
	ends map[[sha256.Size]byte]time.Time
}

// begin begins a session and returns its id, which is secret.
func (s *sessions) begin(now time.Time) (id string) {
	id = rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ends == nil {
		s.ends = make(map[[sha256.Size]byte]time.Time)
	}
	for len(s.ends) >= sessionsMax {
		var oldest [sha256.Size]byte
		for hash, end := range s.ends {
			if first, ok := s.ends[oldest]; !ok || end.Before(first) {
				oldest = hash
			}
		}
		delete(s.ends, oldest)
	}
	s.ends[sha256.Sum256([]byte(id))] = now.Add(sessionTime)
	return id
}

// open reports whether a session is there and has not ended.
func (s *sessions) open(id string, now time.Time) bool {
	hash := sha256.Sum256([]byte(id))
	s.mu.Lock()
	defer s.mu.Unlock()
	end, ok := s.ends[hash]
	if ok && !now.Before(end) {
		delete(s.ends, hash)
		ok = false
	}
	return ok
}

// end ends a session, if there is one of that id.
func (s *sessions) end(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ends, sha256.Sum256([]byte(id)))
}
