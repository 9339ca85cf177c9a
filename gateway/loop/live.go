package loop

// Live counts a loop's open connections, for a process that may take them over.
type Live struct {
	Plain      map[string]int // without TLS, by their variants' names
	Compressed int            // of those, that have negotiated compression
	Secure     int            // with TLS
}

// Live counts the loop's open connections.
func (l *Loop) Live() Live {
	v := Live{Plain: make(map[string]int)}
	for _, c := range l.conns {
		switch {
		case c.Phase != phaseOpen:
		case c.secure() != nil:
			v.Secure++
		default:
			v.Plain[c.Variant().Name]++
			if c.has(bitCompressed) {
				v.Compressed++
			}
		}
	}
	return v
}
