package channel

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"sluice/poller/leaktest"
)

// patience bounds every wait for something that must happen.
const patience = time.Minute

func TestMain(m *testing.M) { leaktest.Main(m) }

// nameIn returns the name of a channel in a shard of a space, so that what Trim does comes in the same order in
// every process: which shard a name is in is random.
func nameIn(s *Space, shard int) string {
	for i := 0; ; i++ {
		if name := fmt.Sprintf("%04d", i); s.shard(name) == &s.shards[shard] {
			return name
		}
	}
}

// padded is a Format: a length, the payload, and so many bytes of padding.
type padded int

// lengthBytes is what a padded frame begins with: the length of all of it.
const lengthBytes = 4

func (f padded) Append(dst []byte, p *Publication) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = append(dst, p.Payload...)
	for range int(f) {
		dst = append(dst, 0xee)
	}
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start))
	return dst
}

// size is what a payload of n bytes takes in the log.
func (f padded) size(n int) int { return lengthBytes + n + int(f) }

// counting is a Subscriber and a Waiter that counts what it is told.
type counting struct{ told int }

func (c *counting) Notify()   { c.told++ }
func (c *counting) Released() { c.told++ }

// member is a reader of a log with one subscriber.
type member struct {
	Reader
	counting
}

func join(t testing.TB, s *Space, name string, f Format) *member {
	t.Helper()
	m := new(member)
	if err := s.Join(name, f, m, &m.Reader); err != nil {
		t.Fatal(err)
	}
	return m
}

// serve reads all that there is, as a loop whose subscribers take everything.
func (m *member) serve() (pressed uint64) {
	pressed = m.Clear()
	m.Served(m.Log().Head())
	return pressed
}

// view returns what can be read from cursor on, which must not be gone.
func (r *Reader) view(cursor uint64) *View {
	v, ok := r.View(cursor)
	if !ok {
		panic("cursor is gone")
	}
	return &v
}

// publishSize publishes n bytes; w may be nil.
func publishSize(c *Channel, n int, w Waiter) error {
	_, err := c.Publish(&Publication{Payload: make([]byte, n)}, new(Scratch), w)
	return err
}
