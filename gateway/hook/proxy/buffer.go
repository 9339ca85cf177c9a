package proxy

import (
	"io"
	"sync"
)

// bufferMax is the capacity up to which a buffer is kept.
const bufferMax = answerMax + 1

// answers are buffers for answers: decoding copies what it keeps.
var answers = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

func release(answer *[]byte) {
	if cap(*answer) <= bufferMax {
		*answer = (*answer)[:0]
		answers.Put(answer)
	}
}

// readAll reads an answer into a buffer, but not much more than answerMax bytes of it.
func readAll(buf *[]byte, r io.Reader) (int, error) {
	b := (*buf)[:0]
	for len(b) <= answerMax {
		if len(b) == cap(b) {
			grown := make([]byte, len(b), min(4*cap(b), bufferMax))
			copy(grown, b)
			b = grown
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, err
		}
	}
	*buf = b
	return len(b), nil
}
