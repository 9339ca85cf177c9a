package channel

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// most is the largest payload that a log of padded(0) frames ever takes.
const most = ringBytesMin/2 - entryBytes - lengthBytes

func TestReceiptTellsPositionAndSubscribers(t *testing.T) {
	s := NewSpace(ringBytesMin, 1, NewBudget(1<<20))
	m := join(t, s, "c", padded(0))
	c := s.Find("c")
	c.Joined()
	c.Joined()
	c.Left()
	got, err := c.Publish(&Publication{Payload: []byte("x")}, new(Scratch), nil)
	if want := (Receipt{Epoch: c.Epoch(), Offset: 1, Subscribers: 1}); got != want || err != nil {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if c.Name() != "c" || m.Log().Channel() != c {
		t.Errorf("the log of %q is in %q", c.Name(), m.Log().Channel().Name())
	}
	s.Leave(&m.Reader)
}

func TestEpochsText(t *testing.T) {
	for e, want := range map[Epoch]string{0: "", 1: "1", 36: "10", 1<<64 - 1: "3w5e11264sgsf"} {
		if got := e.String(); got != want {
			t.Errorf("%d is %q, want %q", uint64(e), got, want)
		}
		text, err := json.Marshal(Receipt{Epoch: e, Offset: 7, Subscribers: 2})
		if want := `{"epoch":"` + want + `","offset":7,"subscribers":2}`; err != nil || string(text) != want {
			t.Errorf("a receipt is %s, %v; want %s", text, err, want)
		}
		var back Receipt
		if err := json.Unmarshal(text, &back); err != nil || back != (Receipt{Epoch: e, Offset: 7, Subscribers: 2}) {
			t.Errorf("%s is read as %+v, %v", text, back, err)
		}
	}
	if err := json.Unmarshal([]byte(`{"epoch":"!"}`), new(Receipt)); err == nil {
		t.Error("a malformed epoch is accepted")
	}
}

// A frame of more than half the log goes in alone: when everything else is served.
// Only one that is larger than any log may become is refused for good.
func TestLargeFrameWaitsUntilItIsAlone(t *testing.T) {
	s := NewSpace(ringBytesMin, 1, NewBudget(1<<20))
	m := join(t, s, "c", padded(0))
	defer s.Leave(&m.Reader)
	c := s.Find("c")
	w := new(counting)
	for _, n := range []int{most, most} {
		if err := publishSize(c, n, w); err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	if used := m.Log().usedLocked(); used != ringBytesMin {
		t.Errorf("%d bytes are used, want all %d", used, ringBytesMin)
	}
	if err := publishSize(c, most+1, w); !errors.Is(err, ErrFull) {
		t.Errorf("a large one beside others: %v, want ErrFull", err)
	}
	if got := m.Clear(); got != m.Log().Head() {
		t.Errorf("readers are pressed to %d, want %d: everything", got, m.Log().Head())
	}
	half := m.Log().Head() / 2
	m.Served(half)
	if err := publishSize(c, most+1, w); !errors.Is(err, ErrFull) {
		t.Errorf("a large one beside one other: %v, want ErrFull", err)
	}
	m.Served(m.Log().Head())
	largest := largeFrames*ringBytesMin - entryBytes - padded(0).size(0)
	if err := publishSize(c, largest, w); err != nil {
		t.Errorf("the largest, alone: %v", err)
	}
	if err := publishSize(c, 1, w); !errors.Is(err, ErrFull) {
		t.Errorf("a small one behind it: %v, want ErrFull", err)
	}
	m.Served(m.Log().Head())
	if err := publishSize(c, largest+1, w); !errors.Is(err, ErrTooBig) {
		t.Errorf("more than the largest: %v, want ErrTooBig", err)
	}
}

// A publication is in all formats or in none: the second log is full, so the first
// must not have it.
func TestRefusedPublicationIsInNoLog(t *testing.T) {
	s := NewSpace(ringBytesMin, 1, NewBudget(1<<20))
	quick, slow := join(t, s, "c", padded(0)), join(t, s, "c", padded(50))
	c := s.Find("c")
	for publishSize(c, 50, nil) == nil {
		quick.serve()
	}
	head, count, offset := quick.Log().Head(), quick.Log().count.Load(), c.offset
	for range 3 {
		if err := publishSize(c, 50, nil); !errors.Is(err, ErrFull) {
			t.Fatalf("%v, want ErrFull", err)
		}
	}
	got := []uint64{quick.Log().Head(), quick.Log().count.Load(), c.offset}
	if diff := cmp.Diff([]uint64{head, count, offset}, got); diff != "" {
		t.Errorf("head, count and offset after the refusals (-before +after):\n%s", diff)
	}
	slow.serve()
	r, err := c.Publish(&Publication{}, new(Scratch), nil)
	if err != nil || r.Offset != offset+1 {
		t.Errorf("offset %d, %v after the refusals, want %d", r.Offset, err, offset+1)
	}
	s.Leave(&quick.Reader)
	s.Leave(&slow.Reader)
}

// While somebody waits for room for a large publication, small ones that would
// fit must not take it.
func TestSmallPublicationsWaitBehindALargeOne(t *testing.T) {
	s := NewSpace(ringBytesMin, 1, NewBudget(1<<20))
	m := join(t, s, "c", padded(0))
	defer s.Leave(&m.Reader)
	c := s.Find("c")
	if err := errors.Join(publishSize(c, most, nil), publishSize(c, most/2, nil)); err != nil {
		t.Fatal(err)
	}
	large, small := new(counting), new(counting)
	if err := publishSize(c, most, large); !errors.Is(err, ErrFull) {
		t.Fatalf("the large one: %v, want ErrFull", err)
	}
	if err := publishSize(c, 1, small); !errors.Is(err, ErrFull) {
		t.Fatalf("a small one that would fit: %v, want ErrFull", err)
	}
	if large.told+small.told != 0 {
		t.Fatal("released before anything was served")
	}
	m.serve()
	if large.told != 1 || small.told != 1 {
		t.Errorf("released %d and %d times, want once each", large.told, small.told)
	}
	if err := publishSize(c, most, large); err != nil {
		t.Errorf("the large one after the release: %v", err)
	}
}

func TestOnlyThoseWhoHoldALogBackArePressed(t *testing.T) {
	s := NewSpace(ringBytesMin, 1, NewBudget(1<<20))
	quick, slow := join(t, s, "c", padded(0)), join(t, s, "c", padded(0))
	c := s.Find("c")
	for publishSize(c, 50, nil) == nil {
		quick.serve()
	}
	log := slow.Log()
	goal := slow.Clear()
	if quick.Clear() != 0 {
		t.Error("a reader that has served everything is pressed")
	}
	cost := func(cursor uint64) int {
		return int(log.Head()-cursor) + entryBytes*int(log.count.Load()-slow.view(cursor).Find(cursor))
	}
	frame := uint64(padded(0).size(50))
	if slow.view(0).Floor(0, goal) != goal || cost(goal) > ringBytesMin/2 || cost(goal-frame) <= ringBytesMin/2 {
		t.Errorf("pressed to %d, which leaves %d bytes of %d; a frame less leaves %d", goal, cost(goal), ringBytesMin, cost(goal-frame))
	}
	if again := slow.Clear(); again != 0 {
		t.Errorf("pressed to %d without another refusal", again)
	}
	slow.Served(goal)
	if err := publishSize(c, most, nil); err != nil {
		t.Errorf("the largest publication after the release: %v", err)
	}
	s.Leave(&quick.Reader)
	s.Leave(&slow.Reader)
}

func TestWaitersAreToldWhenTheReaderLeaves(t *testing.T) {
	s := NewSpace(ringBytesMin, 1, NewBudget(1<<20))
	quick, slow := join(t, s, "c", padded(0)), join(t, s, "c", padded(0))
	c := s.Find("c")
	for publishSize(c, 50, nil) == nil {
		quick.serve()
	}
	w := new(counting)
	if err := publishSize(c, 50, w); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	quick.serve()
	if w.told != 0 {
		t.Fatal("released although the log is as full as before")
	}
	s.Leave(&slow.Reader)
	if w.told != 1 {
		t.Fatalf("released %d times, want once", w.told)
	}
	if err := publishSize(c, 50, w); err != nil {
		t.Errorf("after the slow reader has left: %v", err)
	}
	s.Leave(&quick.Reader)
}

func TestForgottenWaiterIsNotToldAndHoldsNobodyBack(t *testing.T) {
	s := NewSpace(ringBytesMin, 1, NewBudget(1<<20))
	m := join(t, s, "c", padded(0))
	defer s.Leave(&m.Reader)
	c := s.Find("c")
	for publishSize(c, 50, nil) == nil {
	}
	first, second := new(counting), new(counting)
	for _, w := range []*counting{first, second} {
		if err := publishSize(c, 50, w); !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
	}
	c.Forget(first)
	c.Forget(first)
	if !m.Log().starved.Load() {
		t.Error("nobody is said to wait, but the second does")
	}
	m.serve()
	if first.told != 0 || second.told != 1 {
		t.Errorf("released %d and %d times, want only the second", first.told, second.told)
	}
	for publishSize(c, 50, nil) == nil {
	}
	if err := publishSize(c, 50, first); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	c.Forget(first)
	if m.Log().starved.Load() {
		t.Error("somebody is said to wait, but nobody does")
	}
	c.Forget(second) // was told already
}

// What is appended after Clear notifies, whatever of it the reader then sees; what
// is appended before does not notify twice.
func TestNotificationComesOnceUntilCleared(t *testing.T) {
	s := NewSpace(ringBytesMin, 1, NewBudget(1<<20))
	m := join(t, s, "c", padded(0))
	defer s.Leave(&m.Reader)
	c := s.Find("c")
	for i, want := range []int{1, 1, 2, 2, 3} {
		if i > 0 && i%2 == 0 {
			m.serve()
		}
		if err := publishSize(c, 1, nil); err != nil {
			t.Fatal(err)
		}
		if m.told != want {
			t.Errorf("after publication %d: notified %d times, want %d", i, m.told, want)
		}
	}
}
