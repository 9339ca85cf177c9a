package bench

import "bytes"

// A JSON record of a channel begins like the one before, up to its offset:
//
//	{"channel":"news","epoch":"3w5e11264sg1","offset":12,"at":1763712000123,"from":"17","data":"text"}
//
// So does an event's id, "id: 3w5e11264sg1:12". That beginning, the lead, is
// learnt once and then only compared: no record is decoded.

var (
	offsetKey = []byte(`"offset":`)
	epochKey  = []byte(`"epoch":"`)
	gapKey    = []byte(`{"gap":`)
	lostKey   = []byte(`{"gap":true`)
)

// place takes a JSON record's position and reports whether it is a publication, which
// has one. A record may only say where the connection stands.
func (r *receiver) place(c *conn, record []byte) bool {
	if len(r.lead) == 0 || !bytes.HasPrefix(record, r.lead) {
		if bytes.HasPrefix(record, gapKey) {
			r.standing(c, record)
			return false
		}
		at, epoch := findPosition(record)
		if at < 0 {
			return false
		}
		if r.learn(record[:at], epoch) {
			r.moved(c)
		}
	}
	offset, size := decimal(record[len(r.lead):])
	if size > 0 {
		r.follow(&c.next, offset)
	}
	return size > 0
}

// standing takes a record that says from which offset on publications follow.
func (r *receiver) standing(c *conn, record []byte) {
	if bytes.HasPrefix(record, lostKey) {
		r.gaps++
	}
	if at, epoch := findPosition(record); at >= 0 {
		r.epoch = append(r.epoch[:0], epoch...)
		offset, _ := decimal(record[at:]) // no number is zero, and what follows is a hole
		c.next = offset + 1
	}
}

// learn remembers how records begin from now on, and reports whether that is with
// another epoch.
func (r *receiver) learn(lead, epoch []byte) (another bool) {
	another = len(r.epoch) > 0 && !bytes.Equal(r.epoch, epoch)
	r.epoch = append(r.epoch[:0], epoch...)
	r.lead = append(r.lead[:0], lead...)
	return another
}

// moved takes a publication of another epoch, which nobody announced: a connection
// that stood somewhere has missed what lies between.
func (r *receiver) moved(c *conn) {
	if c.next > 0 {
		r.holes++
		c.next = 0
	}
}

// follow accounts for the offset of the next publication, where due lies that which
// should come.
func (r *receiver) follow(due *uint64, offset uint64) {
	r.at = offset
	switch {
	case offset == *due || *due == 0:
	case offset > *due:
		r.holes += int64(offset - *due)
	default:
		r.repeats++
		return
	}
	*due = offset + 1
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
