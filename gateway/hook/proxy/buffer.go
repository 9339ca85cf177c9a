package proxy

import (
	"io"
	"net/http"
	"sync"
	"sync/atomic"
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

// body is the body of a request. http.Transport may read it after its call is over, and may open
// it again, so its buffer is used again only when all its readers are closed.
type body struct {
	bytes []byte
	refs  atomic.Int32 // readers, and the call
}

// bodies are buffers that nothing refers to.
var bodies = sync.Pool{New: func() any { return &body{bytes: make([]byte, 0, 1024)} }}

func newBody() *body {
	b := bodies.Get().(*body)
	b.bytes = b.bytes[:0]
	b.refs.Store(1)
	return b
}

func (b *body) release() {
	if b.refs.Add(-1) == 0 && cap(b.bytes) <= bufferMax {
		bodies.Put(b)
	}
}

func (b *body) open() io.ReadCloser {
	b.refs.Add(1)
	return &bodyReader{body: b}
}

// bodyReader reads a body. Read and Close may come from different goroutines.
type bodyReader struct {
	mu   sync.Mutex
	body *body // nil: closed
	read int
}

func (r *bodyReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.body == nil {
		return 0, http.ErrBodyReadAfterClose
	}
	n := copy(p, r.body.bytes[r.read:])
	if r.read += n; n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (r *bodyReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.body != nil {
		r.body.release()
		r.body = nil
	}
	return nil
}
