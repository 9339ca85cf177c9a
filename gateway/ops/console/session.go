package console

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"sluice/gateway/saved"
)

const (
	sessionTime = 12 * time.Hour
	sessionsMax = 256 // beyond it, the oldest ends
)

// Sessions are the sessions of browsers that have logged in. The zero Sessions has none. After an upgrade they go on in
// the new process, unless the key is another one there.
type Sessions struct {
	mu sync.Mutex
	// Guarded by mu: when each ends. By the hash of its id and of the key, so that the time that a look-up takes
	// says nothing about an id, and that a session is open only with the key with which it began.
	ends map[sessionHash]time.Time
}

type sessionHash [sha256.Size]byte

func hashOf(id string, key sessionHash) sessionHash {
	return sha256.Sum256(append(key[:], id...))
}

// begin begins a session and returns its id, which is secret.
func (s *Sessions) begin(key sessionHash, now time.Time) (id string) {
	id = rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ends == nil {
		s.ends = make(map[sessionHash]time.Time)
	}
	for len(s.ends) >= sessionsMax {
		var oldest sessionHash
		for hash, end := range s.ends {
			if first, ok := s.ends[oldest]; !ok || end.Before(first) {
				oldest = hash
			}
		}
		delete(s.ends, oldest)
	}
	s.ends[hashOf(id, key)] = now.Add(sessionTime)
	return id
}

// open reports whether a session is there and has not ended.
func (s *Sessions) open(id string, key sessionHash, now time.Time) bool {
	hash := hashOf(id, key)
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
func (s *Sessions) end(id string, key sessionHash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ends, hashOf(id, key))
}

// sessionsVersion is that of Save.
const sessionsVersion = 1

// Save appends the sessions for the process that takes over: hashes, with which nobody can log in.
func (s *Sessions) Save(dst []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	dst = binary.AppendUvarint(append(dst, sessionsVersion), uint64(len(s.ends)))
	for hash, end := range s.ends {
		dst = binary.AppendUvarint(append(dst, hash[:]...), uint64(end.UnixMilli()))
	}
	return dst
}

// Load takes what Save has appended.
func (s *Sessions) Load(b []byte) error {
	r := saved.Read("the operators' sessions", b, sessionsVersion)
	ends := make(map[sessionHash]time.Time)
	for range min(r.Count(), sessionsMax) {
		var hash sessionHash
		copy(hash[:], r.Take(uint64(len(hash))))
		ends[hash] = time.UnixMilli(int64(r.Uint()))
	}
	if err := r.End(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ends = ends
	return nil
}
