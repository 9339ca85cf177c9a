package handover

import (
	"encoding/binary"
	"fmt"

	"sluice/gateway/saved"
)

// version is that of the messages.
const version = 1

// RightsMax is how many descriptors travel with one message: SCM_MAX_FD of Linux (unix(7)).
const RightsMax = 253

// kind is the kind of a message.
type kind byte

// The messages, in about the order in which they are sent.
const (
	kindHello     kind = 1 + iota // new: Hello
	kindRefused                   // new, before Ready: why
	kindWelcome                   // old: Welcome
	kindAgreed                    // new: it goes on
	kindListeners                 // old: names, and their descriptors
	kindPassed                    // old: IDs of connections, and their descriptors
	kindGone                      // old: IDs of connections that have ended since
	kindPiece                     // old: a piece of what channels keep, in a memory file
	kindTaken                     // new: the piece is taken, and the next one may come
	kindComplete                  // old: everything that was there is passed and copied
	kindPrepared                  // new: and taken
	kindFinal                     // old, frozen: the records, in a memory file
	kindReady                     // new: everything is built
	kindCommit                    // old
	kindStarted                   // new
	kindStraggler                 // old: a connection in its handshake, with what it has sent
	kindReleased                  // old: what only one process can have is free, such as a directory
	kindBye                       // old: nothing more comes
)

var kindNames = [...]string{kindHello: "hello", kindRefused: "refused", kindWelcome: "welcome", kindAgreed: "agreed", kindListeners: "listeners",
	kindPassed: "passed", kindGone: "gone", kindPiece: "piece", kindTaken: "taken", kindComplete: "complete", kindPrepared: "prepared",
	kindFinal: "final", kindReady: "ready", kindCommit: "commit", kindStarted: "started", kindStraggler: "straggler", kindReleased: "released", kindBye: "bye"}

func (k kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return fmt.Sprintf("message %d", byte(k))
}

// Hello is what the new process says of itself.
type Hello struct {
	Version string // of the program
	// Least and Most are the formats of what is handed over that it can take.
	Least, Most uint64
	Descriptors int // its limit
}

// Welcome is what the old process says of itself.
type Welcome struct {
	Version     string // of the program
	Format      uint64 // of what is handed over
	Connections int    // about as many will be passed
	// Needs is what the new process must be able to serve, and with which it begins: for New.Welcome.
	Needs []byte
}

func begin(k kind) []byte { return []byte{byte(k), version} }

func (h *Hello) append() []byte {
	b := saved.AppendBytes(begin(kindHello), h.Version)
	b = binary.AppendUvarint(binary.AppendUvarint(b, h.Least), h.Most)
	return binary.AppendUvarint(b, uint64(h.Descriptors))
}

func readHello(r *saved.Reader) Hello {
	return Hello{Version: string(r.Bytes()), Least: r.Uint(), Most: r.Uint(), Descriptors: int(r.Uint())}
}

func (w *Welcome) append() []byte {
	b := saved.AppendBytes(begin(kindWelcome), w.Version)
	b = binary.AppendUvarint(binary.AppendUvarint(b, w.Format), uint64(w.Connections))
	return saved.AppendBytes(b, w.Needs)
}

func readWelcome(r *saved.Reader) Welcome {
	return Welcome{Version: string(r.Bytes()), Format: r.Uint(), Connections: int(r.Uint()), Needs: r.Bytes()}
}

// appendIDs appends a list of connections.
func appendIDs(b []byte, ids []uint64) []byte {
	b = binary.AppendUvarint(b, uint64(len(ids)))
	for _, id := range ids {
		b = binary.AppendUvarint(b, id)
	}
	return b
}

func readIDs(r *saved.Reader) (ids []uint64) {
	for range r.Count() {
		ids = append(ids, r.Uint())
	}
	return ids
}

// file describes the memory file that is sent with a message.
type file struct {
	size uint64
	sum  uint32 // CRC-32C (RFC 3720, appendix B.4)
}

func (f file) append(b []byte) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, f.size), uint64(f.sum))
}

func readFile(r *saved.Reader) file { return file{r.Uint(), uint32(r.Uint())} }
