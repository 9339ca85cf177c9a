package api

import (
	"encoding/binary"
	"time"

	"sluice/gateway/saved"
)

// After an upgrade of the gateway, the new process remembers the results of the one before. There may be many, so
// most are copied before anything stops, and then the few that have come since.

// savedVersion is that of Handler.Copy and Handler.Save.
const savedVersion = 1

// Copy appends what is remembered for idempotency keys, for Load in another process.
func (h *Handler) Copy(dst []byte) []byte {
	if h.window == nil {
		return append(dst, savedVersion)
	}
	return h.window.save(append(dst, savedVersion), true)
}

// Save appends what has come since Copy.
func (h *Handler) Save(dst []byte) []byte {
	if h.window == nil {
		return append(dst, savedVersion)
	}
	return h.window.save(append(dst, savedVersion), false)
}

// Load remembers what Copy or Save has appended, which is newer than everything that is remembered.
func (h *Handler) Load(b []byte) error {
	r := saved.Read("the results for idempotency keys", b, savedVersion)
	for r.More() {
		d, result := readRemembered(r)
		if h.window != nil && len(d) > 0 {
			h.window.load(digest(d), result)
		}
	}
	return r.End()
}

// save appends all results, or those that have come since that.
func (w *window) save(dst []byte, all bool) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	if all {
		w.copied = w.added - uint64(len(w.order)-w.head)
	}
	newest := min(w.added-w.copied, uint64(len(w.order)-w.head))
	w.copied = w.added
	for _, d := range w.order[uint64(len(w.order))-newest:] {
		r := w.results[d]
		dst = append(dst, d[:]...)
		dst = binary.AppendUvarint(dst, r.result.Offset)
		dst = saved.AppendBytes(dst, r.result.Epoch)
		dst = binary.AppendUvarint(dst, uint64(r.result.Subscribers))
		dst = binary.AppendUvarint(dst, uint64(r.until.UnixMilli()))
	}
	return dst
}

func readRemembered(r *saved.Reader) (d []byte, m remembered) {
	d = r.Take(uint64(len(digest{})))
	m.result = PublishResult{Offset: r.Uint(), Epoch: string(r.Bytes()), Subscribers: int(r.Uint())}
	m.until = time.UnixMilli(int64(r.Uint()))
	return d, m
}

// load remembers a result of another process's, as long as that would have.
func (w *window) load(d digest, r remembered) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.results[d]; !ok {
		w.addLocked(d, r)
	}
}
