package handover

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
	"time"
)

// New is what the new process does. Its methods are called in about the order in which they stand here, on
// one goroutine. It neither accepts, nor reads or writes what it is passed, before Start.
type New interface {
	// Agree returns why this process cannot take over from the old one, nil if it can.
	Agree(Welcome) error
	// Listener takes a listening socket of the old process, which is non-blocking.
	Listener(name string, f *os.File) error
	// Add takes the descriptors of connections.
	Add(ids []uint64, fds []int) error
	// Gone ends connections that were added: in the old process they have ended.
	Gone(ids []uint64)
	// Restore takes the next piece of what channels keep. The piece is valid until it returns.
	Restore(piece []byte) error
	// Prepared is called when everything that can be passed before the freeze was. It returns when this process
	// can take over.
	Prepared() error
	// Load builds all connections from the records, and returns how many there are. Afterwards nothing can
	// fail any more.
	Load(records []byte) (connections int, err error)
	// Start serves: the connections are this process's.
	Start()
	// Fresh is called instead if the old process has died before it has frozen, and after it has passed its listeners: what
	// was added is closed, and the listeners are served.
	Fresh()
	// Straggler takes a connection whose handshake was under way, with what it has sent.
	Straggler(sent []byte, fd int)
	// Released is called when the old process has freed what only one process can have, or has ended.
	Released()
}

// The bounds of what is taken.
const (
	pieceMost = 2 << 30
	// commitPatience is how long the new process waits for the commit of an old one that lives: it may be stopped.
	commitPatience = 5 * time.Second
	// preparePatience is how long it waits for anything else: the old process has its own bounds.
	preparePatience = time.Minute
	// orphanPatience is how long the end of the old process's messages may come before its own.
	orphanPatience = time.Second
)

// Inherited returns the end that Give has passed to this process, and removes it from the environment;
// nil if there is none: the process was started by somebody else.
func Inherited() (*os.File, error) {
	text := os.Getenv(EnvFD)
	if text == "" {
		return nil, nil
	}
	os.Unsetenv(EnvFD) // ignored: the name is valid
	fd, err := strconv.Atoi(text)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("handover: %s=%q is no descriptor", EnvFD, text)
	}
	return os.NewFile(uintptr(fd), "handover"), nil
}

// taking is the new process's part.
type taking struct {
	n         New
	conn      *conn
	parent    int
	listeners bool               // they have come: it can serve without what else comes
	at        func(point string) // for tests
	piece     []byte             // the last piece of what channels keep: the next one takes its place
}

// Take takes over from the process at the other end of f, which it closes. It returns when the old process has
// nothing more to say: with an error if this process does not serve and has to end.
func Take(f *os.File, h Hello, n New) error { return take(f, h, n, points("new")) }

func take(f *os.File, h Hello, n New, at func(string)) error {
	return (&taking{n: n, parent: os.Getppid(), at: at}).take(f, h)
}

func (t *taking) take(f *os.File, h Hello) (err error) {
	if t.conn, err = newConn(f); err != nil {
		return err
	}
	defer t.conn.close()
	if err = t.prepare(h); err == nil {
		err = t.takeOver()
	}
	if err == nil {
		t.rest()
		return nil
	}
	var refused *RefusedError
	if errors.Is(err, io.EOF) && !errors.As(err, &refused) && t.listeners && t.orphaned() {
		t.n.Fresh()
		t.n.Released()
		return nil
	}
	return err
}

// refuse tells the old process why this one does not take over.
func (t *taking) refuse(why error) error {
	t.send(append(begin(kindRefused), appendText(why.Error())...)) // ignored: then the old process sees that this one ends
	return &RefusedError{why.Error()}
}

func appendText(s string) []byte { return append(binary.AppendUvarint(nil, uint64(len(s))), s...) }

// send sends a message. Its error is io.EOF, wrapped, if the other process has ended.
func (t *taking) send(b []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), preparePatience)
	defer cancel()
	err := t.conn.send(ctx, b)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return endedError{kind(b[0])}
	}
	return err
}

// prepare does what is done while the old process serves.
func (t *taking) prepare(h Hello) error {
	if err := t.send(h.append()); err != nil {
		return err
	}
	t.at("hello")
	m, err := t.conn.expect(kindWelcome, time.Now().Add(preparePatience))
	if err != nil {
		return err
	}
	w := readWelcome(m.body)
	if err := m.end(0); err != nil {
		return err
	}
	if err := t.n.Agree(w); err != nil {
		return t.refuse(err)
	}
	if err := t.send(begin(kindAgreed)); err != nil {
		return err
	}
	for {
		m, err := t.conn.receive(time.Now().Add(preparePatience))
		if errors.Is(err, io.EOF) {
			return endedError{kindFinal}
		}
		if err != nil {
			return err
		}
		done, err := t.message(&m)
		if err != nil {
			m.drop()
			if errors.Is(err, io.EOF) {
				return err
			}
			return t.refuse(err)
		}
		if done {
			return nil
		}
	}
}

// message takes one of the messages before the freeze, and of those within it. final: it was the last one.
func (t *taking) message(m *received) (final bool, err error) {
	switch m.kind {
	case kindListeners:
		names := make([]string, m.body.Byte())
		for i := range names {
			names[i] = string(m.body.Bytes())
		}
		if err := m.end(len(names)); err != nil {
			return false, err
		}
		for i, name := range names {
			fd := m.fds[i]
			m.fds[i] = -1
			if err := t.n.Listener(name, os.NewFile(uintptr(fd), name)); err != nil {
				return false, err
			}
		}
		m.fds = nil
		t.listeners = true
		t.at("listeners")
	case kindPassed:
		ids := readIDs(m.body)
		if err := m.end(len(ids)); err != nil {
			return false, err
		}
		fds := m.fds
		m.fds = nil
		if err := t.n.Add(ids, fds); err != nil {
			return false, err
		}
		t.at("passed")
	case kindGone:
		ids := readIDs(m.body)
		if err := m.end(0); err != nil {
			return false, err
		}
		t.n.Gone(ids)
	case kindPiece:
		b, err := t.file(m, t.piece)
		if err != nil {
			return false, err
		}
		t.piece = b
		if err := t.n.Restore(b); err != nil {
			return false, err
		}
		return false, t.send(begin(kindTaken))
	case kindComplete:
		if err := m.end(0); err != nil {
			return false, err
		}
		if err := t.n.Prepared(); err != nil {
			return false, err
		}
		t.at("prepared")
		return false, t.send(begin(kindPrepared))
	case kindFinal:
		t.piece = nil
		b, err := t.file(m, nil)
		if err != nil {
			return false, err
		}
		t.at("final")
		moved, err := t.n.Load(b)
		if err != nil {
			return false, err
		}
		t.at("built")
		// An old process that has ended meanwhile cannot be told, and is exact.
		if err := t.send(binary.AppendUvarint(begin(kindReady), uint64(moved))); err != nil && !t.orphaned() {
			return false, err
		}
		return true, nil
	default:
		return false, fmt.Errorf("handover: got %v before the final message", m.kind)
	}
	return false, nil
}

// file returns what is in the memory file of a message, in room if that is large enough.
func (t *taking) file(m *received, room []byte) ([]byte, error) {
	meta := readFile(m.body)
	if err := m.end(1); err != nil {
		return nil, err
	}
	fd := m.fds[0]
	m.fds = nil
	return read(fd, meta, pieceMost, room)
}

// takeOver waits for the commit, and serves. An old process that has ended is exact: it was frozen.
func (t *taking) takeOver() error {
	t.at("ready")
	m, err := t.conn.expect(kindCommit, time.Now().Add(commitPatience))
	m.drop()
	if err != nil && !errors.Is(err, io.EOF) {
		return errors.New("handover: no commit: " + err.Error())
	}
	t.at("commit")
	if err == nil {
		if err := t.send(begin(kindStarted)); err != nil && !t.orphaned() {
			return errors.New("handover: cannot start: " + err.Error())
		}
	}
	t.n.Start()
	t.at("started")
	return nil
}

// rest takes what comes from an old process that does not serve any more.
func (t *taking) rest() {
	released := false
	for {
		m, err := t.conn.receive(time.Now().Add(preparePatience))
		if err != nil || m.kind == kindBye {
			break
		}
		switch m.kind {
		case kindStraggler:
			sent := m.body.Bytes()
			if m.end(1) != nil {
				break
			}
			fd := m.fds[0]
			m.fds = nil
			t.n.Straggler(sent, fd)
		case kindReleased:
			released = true
			t.n.Released()
		}
		m.drop()
	}
	if !released {
		t.n.Released()
	}
}

// orphaned reports whether the old process has died: this one has another parent then.
func (t *taking) orphaned() bool {
	for end := time.Now().Add(orphanPatience); ; time.Sleep(time.Millisecond) {
		if os.Getppid() != t.parent {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}
