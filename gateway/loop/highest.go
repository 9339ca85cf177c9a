package loop

// ranked is a connection with what it is chosen by.
type ranked struct {
	key uint64
	c   *Conn
}

// below reports whether a comes behind b: it has a lower key, or is newer with the same.
func (a ranked) below(b ranked) bool { return a.key < b.key || a.key == b.key && a.c.id > b.c.id }

// highest returns the n (at least 1) connections of the loop with the highest keys, highest first, in one pass; ones
// with key 0 only where zero is set. It keeps n of them, in a heap with the lowest at the top.
func (l *Loop) highest(n int, key func(*Conn) uint64, zero bool) []ranked {
	heap := make([]ranked, 0, min(n, len(l.conns)))
	down := func(i int) {
		for {
			low := 2*i + 1
			if low >= len(heap) {
				return
			}
			if right := low + 1; right < len(heap) && heap[right].below(heap[low]) {
				low = right
			}
			if heap[i].below(heap[low]) {
				return
			}
			heap[i], heap[low] = heap[low], heap[i]
			i = low
		}
	}
	for _, c := range l.conns {
		k := ranked{key(c), c}
		switch {
		case k.key == 0 && !zero:
		case len(heap) < n:
			heap = append(heap, k)
			for i := len(heap) - 1; i > 0 && heap[i].below(heap[(i-1)/2]); i = (i - 1) / 2 {
				heap[i], heap[(i-1)/2] = heap[(i-1)/2], heap[i]
			}
		case heap[0].below(k):
			heap[0] = k
			down(0)
		}
	}
	all := heap
	for len(heap) > 1 { // the lowest goes to the end, again and again
		last := len(heap) - 1
		heap[0], heap[last] = heap[last], heap[0]
		heap = heap[:last]
		down(0)
	}
	return all
}
