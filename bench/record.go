package bench

import (
	"bytes"
	"hash/maphash"
)

// A JSON record of a channel begins like the one before, up to its offset:
//
//	{"channel":"news","epoch":"3w5e11264sg1","offset":12,"prev":11,"at":1763712000123,"from":"17","data":"text"}
//
// So does an event's id, "id: 3w5e11264sg1:12". That beginning, the lead, is
// learnt once and then only compared: no record is decoded.

var (
	offsetKey = []byte(`"offset":`)
	prevKey   = []byte(`,"prev":`)
	epochKey  = []byte(`"epoch":"`)
	gapKey    = []byte(`{"gap":`)
	lostKey   = []byte(`{"gap":true`)
)

// place takes a JSON record's position and reports whether it is a publication, which
// has one. A record may only say where the connection stands.
func (r *receiver) place(c *conn, record []byte) bool {
	l := r.leadOf(c)
	if len(l.text) == 0 || !bytes.HasPrefix(record, l.text) {
		if bytes.HasPrefix(record, gapKey) {
			r.stand(c, record)
			return false
		}
		at, epoch := findPosition(record)
		if at < 0 {
			return false
		}
		if l.learn(record[:at], epoch) {
			r.moved(c)
		}
	}
	offset, size := decimal(record[len(l.text):])
	if size > 0 {
		prev := unknown
		r.inEpoch = l.hash
		if rest, ok := bytes.CutPrefix(record[len(l.text)+size:], prevKey); ok {
			prev, _ = decimal(rest) // no number is zero, and a hole
		}
		r.follow(&c.stands, prev, offset)
	}
	return size > 0
}

// standing is where a client stands in its channel: it has everything up to an offset. The zero
// standing is not known.
type standing struct {
	known  bool
	offset uint64
}

// unknown is the offset of the publication before one, where a protocol does not name it.
const unknown = ^uint64(0)

// stand takes a record that says behind which offset publications follow.
func (r *receiver) stand(c *conn, record []byte) {
	if bytes.HasPrefix(record, lostKey) {
		r.gaps++
	}
	if at, epoch := findPosition(record); at >= 0 {
		r.leadOf(c).inEpoch(epoch)
		offset, _ := decimal(record[at:]) // no number is zero, and what follows is a hole
		c.stands = standing{true, offset}
	}
}

// lead is how records, or IDs of events, of one node begin. Each node has its own: without a
// history, its channels have epochs of their own.
type lead struct {
	text  []byte
	epoch []byte // the one in it
	hash  uint64 // of the epoch
}

// leadOf returns how what comes on a connection begins.
func (r *receiver) leadOf(c *conn) *lead { return &r.leads[c.node] }

// learn remembers how records begin from now on, and reports whether that is with
// another epoch.
func (l *lead) learn(text, epoch []byte) (another bool) {
	another = len(l.epoch) > 0 && !bytes.Equal(l.epoch, epoch)
	l.text = append(l.text[:0], text...)
	l.inEpoch(epoch)
	return another
}

// inEpoch remembers the epoch.
func (l *lead) inEpoch(epoch []byte) {
	l.epoch = append(l.epoch[:0], epoch...)
	l.hash = epochHash(string(l.epoch))
}

// epochHash stands for an epoch where only equality matters; 0 is none.
func epochHash(epoch string) uint64 {
	if epoch == "" {
		return 0
	}
	return maphash.String(epochSeed, epoch) | 1
}

var epochSeed = maphash.MakeSeed()

// moved takes a publication of another epoch, which nobody announced: a connection
// that stood somewhere has missed what lies between.
func (r *receiver) moved(c *conn) {
	if c.stands.known {
		r.holes++
		c.stands = standing{}
	}
}

// follow accounts for the next publication of a client that stands somewhere: its offset and,
// unless that is unknown, the one before it. Offsets have holes where nothing was published, so
// only prev shows that something is missing.
func (r *receiver) follow(at *standing, prev, offset uint64) {
	r.at = offset
	switch {
	case !at.known:
	case offset <= at.offset:
		r.repeats++
		return
	case prev != unknown && prev != at.offset && prev != 0: // 0: the channel was empty, and where it began is above that
		r.holes++
	}
	*at = standing{true, offset}
}

// findPosition returns where a record's offset begins, or -1, and its epoch. Both
// lie before anything that a client wrote, except for the channel's name, in which
// a quote is escaped.
func findPosition(record []byte) (at int, epoch []byte) {
	record = record[:min(len(record), envelopeMax)]
	if at = bytes.Index(record, offsetKey); at < 0 {
		return -1, nil
	}
	if i := bytes.Index(record[:at], epochKey); i >= 0 {
		epoch = record[i+len(epochKey) : at]
		epoch = epoch[:max(bytes.IndexByte(epoch, '"'), 0)]
	}
	return at + len(offsetKey), epoch
}

// decimal reads the number at the start of p, which has size digits.
func decimal(p []byte) (n uint64, size int) {
	for size < len(p) && p[size]-'0' <= 9 {
		n = 10*n + uint64(p[size]-'0')
		size++
	}
	return n, size
}
