//go:build faults

package edge

// Held counts what the connections and requests that are in no loop hold: places, and seats on
// the stage.
func (s *Server) Held() int {
	s.stage.mu.Lock()
	held := s.stage.taken + s.stage.waiting.Len() + len(s.stage.addresses)
	s.stage.mu.Unlock()
	taken, waiting := s.web.places.count()
	return held + taken + waiting + len(s.crypto)
}
