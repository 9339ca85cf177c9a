package takeover

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"sluice/gateway/saved"
)

// Part is something that the new process goes on with beside channels and connections, such as counters. A process
// that does not know a part of another version leaves it out.
type Part struct {
	Name string
	// Copy appends what there is before the freeze; nil for a part that is small.
	Copy func(dst []byte) []byte
	// Save appends what there is in the freeze, or what Copy did not have.
	Save func(dst []byte) []byte
	// Load takes what Copy or Save has appended in the other process, and has a version of its own. Its error is why this
	// process cannot take over.
	Load func(b []byte) error
	// Thawed, if set, is called after Save if this process goes on, and Given if it has nothing any more.
	Thawed, Given func()
}

// What a piece of Old.Copy is.
const (
	pieceChannels = iota
	piecePart
	pieceLogs
)

// copyParts appends pieces of the parts that are copied before the freeze.
func copyParts(parts []Part) (pieces [][]byte) {
	for _, p := range parts {
		if p.Copy != nil {
			pieces = append(pieces, saved.AppendPart(saved.AppendBytes([]byte{piecePart}, p.Name), p.Copy))
		}
	}
	return pieces
}

// restore takes a piece of Old.Copy.
func (n *New) restore(piece []byte) error {
	if len(piece) == 0 {
		return errors.New("an empty piece was handed over")
	}
	switch kind, b := piece[0], piece[1:]; kind {
	case pieceChannels:
		return n.parts.Space.Restore(b)
	case pieceLogs:
		return n.taking.Restore(b)
	case piecePart:
		r := saved.ReadPart("a part of the gateway", b)
		name, b := string(r.Bytes()), r.View()
		if err := r.End(); err != nil {
			return err
		}
		return n.loadPart(name, b)
	default:
		return fmt.Errorf("a piece of the unknown kind %d was handed over", kind)
	}
}

func (n *New) loadPart(name string, b []byte) error {
	for _, p := range append(n.parts.Others[:len(n.parts.Others):len(n.parts.Others)], Part{Name: freezePart, Load: n.loadFreeze}) {
		if p.Name == name {
			if err := p.Load(b); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

// freezePart is a part of this package's own: when the freeze began, on the clock that both processes share.
const (
	freezePart    = "freeze"
	freezeVersion = 1
)

func (o *Old) saveFreeze(dst []byte) []byte {
	return binary.AppendUvarint(append(dst, freezeVersion), uint64(o.froze))
}

func (n *New) loadFreeze(b []byte) error {
	r := saved.Read("the time of the freeze", b, freezeVersion)
	n.froze = time.Duration(r.Uint())
	return r.End()
}

// savedVersion is that of what is handed over in the freeze.
const savedVersion = 1

// save appends what is handed over in the freeze: the rest of the channels, the parts, and the records of all
// connections.
func (o *Old) save(dst []byte) []byte {
	dst = saved.AppendPart(append(dst, savedVersion), o.snapshot.Rest)
	parts := append(o.Others[:len(o.Others):len(o.Others)], Part{Name: freezePart, Save: o.saveFreeze})
	dst = binary.AppendUvarint(dst, uint64(len(parts)))
	for _, p := range parts {
		dst = saved.AppendPart(saved.AppendBytes(dst, p.Name), p.Save)
	}
	return saved.AppendPart(dst, o.giving.Save)
}

// load takes what save has appended.
func (n *New) load(b []byte) (connections int, err error) {
	r := saved.Read("the state of the gateway", b, savedVersion)
	rest := r.View()
	type part struct {
		name string
		b    []byte
	}
	var parts []part
	for range r.Count() {
		parts = append(parts, part{string(r.Bytes()), r.View()})
	}
	records := r.View()
	if err := r.End(); err != nil {
		return 0, err
	}
	if err := n.parts.Space.Restore(rest); err != nil {
		return 0, err
	}
	for _, p := range parts {
		if err := n.loadPart(p.name, p.b); err != nil {
			return 0, err
		}
	}
	return n.taking.Load(records)
}
