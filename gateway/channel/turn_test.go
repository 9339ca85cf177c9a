package channel

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
)

// blocking is a Format that stays in its encoding until it is let go; of one value, because
// a subscriber's format is compared.
type blocking struct {
	padded
	entered, release chan struct{}
}

func newBlocking(pad padded) *blocking {
	return &blocking{pad, make(chan struct{}), make(chan struct{})}
}

func (b *blocking) Append(dst []byte, p *Publication) []byte {
	b.entered <- struct{}{}
	<-b.release
	return b.padded.Append(dst, p)
}

// encoding publishes n bytes into the channel of a blocking format, and comes back while they
// are encoded.
func encoding(c *Channel, b *blocking, n int, w Waiter) (published chan error) {
	published = make(chan error, 1)
	go func() { published <- publishSize(c, n, w) }()
	<-b.entered
	return published
}

func TestNobodyWaitsForAnEncoding(t *testing.T) {
	s := historySpace(History{Of: keeping(10, 1<<40), Bytes: 1 << 20})
	slow := newBlocking(0)
	first, second := join(t, s, "x", slow), join(t, s, "x", padded(1))
	c := s.Find("x")
	published := encoding(c, slow, 20, nil)
	// All of these would hang.
	s.Find("x")
	second.Recall(nil, second.log.format, Ask{Kind: AskNow}, 1, 0, new(Scratch))
	c.Collect(Ask{Kind: AskNow}, Bounds{}, 0)
	for range trimPart {
		s.Trim(0)
	}
	s.Leave(&second.Reader)
	third := join(t, s, "x", padded(2))
	again := join(t, s, "x", slow)
	w := new(counting)
	for _, w := range []Waiter{nil, w} {
		if err := publishSize(c, 1, w); !errors.Is(err, ErrTurn) || !errors.Is(err, ErrFull) {
			t.Errorf("during another's turn: %v, want ErrTurn", err)
		}
	}
	if w.told != 0 {
		t.Error("called during another's turn")
	}
	close(slow.release)
	if err := <-published; err != nil {
		t.Error(err)
	}
	if w.told != 1 {
		t.Errorf("after the turn, called %d times, want once", w.told)
	}
	c.Forget(w)
	// The format that left is left out, the one that joined has the publication, and a
	// reader that joined a log meanwhile begins before it.
	for i, m := range []*member{first, third, again} {
		want := slow.padded.size(20)
		if m == third {
			want = padded(2).size(20)
		}
		if got := int(m.Log().Head() - m.served.Load()); got != want {
			t.Errorf("reader %d has %d bytes to read, want %d", i, got, want)
		}
		s.Leave(&m.Reader)
	}
}

// A format that leaves and joins again is not encoded twice; a log that has come in its
// place begins with the publication.
func TestFormatThatComesBackDuringATurn(t *testing.T) {
	s := NewSpace(ringBytesMin, 1, NewBudget(1<<20))
	slow := newBlocking(0)
	first, second := join(t, s, "x", slow), join(t, s, "x", padded(3))
	published := encoding(s.Find("x"), slow, 5, nil)
	s.Leave(&first.Reader)
	first = join(t, s, "x", slow)
	close(slow.release)
	if err := <-published; err != nil {
		t.Fatal(err)
	}
	if first.Log().Head() != uint64(slow.size(5)) || second.Log().Head() != uint64(padded(3).size(5)) {
		t.Errorf("the logs have %d and %d bytes", first.Log().Head(), second.Log().Head())
	}
	s.Leave(&first.Reader)
	s.Leave(&second.Reader)
}

func TestChannelEndsDuringATurn(t *testing.T) {
	s := NewSpace(ringBytesMin, 1, NewBudget(1<<20))
	slow := newBlocking(0)
	m := join(t, s, "x", slow)
	c := s.Find("x")
	published := encoding(c, slow, 5, nil)
	w := new(counting)
	if err := publishSize(c, 5, w); !errors.Is(err, ErrTurn) {
		t.Fatal(err)
	}
	s.Leave(&m.Reader)
	if w.told != 1 {
		t.Errorf("the channel has ended, and who waits was called %d times", w.told)
	}
	close(slow.release)
	if err := <-published; !errors.Is(err, ErrGone) {
		t.Errorf("%v, want ErrGone", err)
	}
	if err := publishSize(c, 5, w); !errors.Is(err, ErrGone) {
		t.Errorf("%v, want ErrGone", err)
	}
}

// broken is a format that panics.
type broken struct{}

func (broken) Append([]byte, *Publication) []byte { panic("broken") }

// However a turn ends, the next publisher has it.
func TestTurnIsPassedOn(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, s *Space, c *Channel){
		"taken": func(t *testing.T, s *Space, c *Channel) {
			if err := publishSize(c, 1, nil); err != nil {
				t.Error(err)
			}
		},
		"too big": func(t *testing.T, s *Space, c *Channel) {
			if err := publishSize(c, largeFrames*ringBytesMin, new(counting)); !errors.Is(err, ErrTooBig) {
				t.Error(err)
			}
		},
		"full": func(t *testing.T, s *Space, c *Channel) {
			for i := range 2 {
				if err := publishSize(c, most, nil); err != nil {
					t.Fatal(i, err)
				}
			}
			if err := publishSize(c, 1, nil); !errors.Is(err, ErrFull) {
				t.Error(err)
			}
			c.logs[0].readers[0].sub.(*member).serve()
		},
		"panic": func(t *testing.T, s *Space, c *Channel) {
			m := join(t, s, "x", broken{})
			func() {
				defer func() { recover() }()
				publishSize(c, 1, new(counting))
				t.Error("the format did not panic")
			}()
			s.Leave(&m.Reader)
		},
		"large": func(t *testing.T, s *Space, c *Channel) {
			if _, err := c.Publish(&Publication{Payload: make([]byte, 20)}, &Scratch{Limit: 20 * growthMost}, new(counting)); err != nil {
				t.Error(err)
			}
			if _, err := c.Publish(&Publication{Payload: make([]byte, 21)}, &Scratch{Limit: 20 * growthMost}, new(counting)); err != ErrLarge {
				t.Errorf("%v, want ErrLarge", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewSpace(ringBytesMin, 1, NewBudget(1<<20))
			m := join(t, s, "x", padded(0))
			defer s.Leave(&m.Reader)
			c := s.Find("x")
			end(t, s, c)
			if c.turn.Load() || len(c.waiters) > 0 || c.called != 0 {
				t.Fatalf("turn taken: %t, %d wait, %d called", c.turn.Load(), len(c.waiters), c.called)
			}
			if err := publishSize(c, 1, nil); err != nil {
				t.Errorf("the next publisher: %v", err)
			}
		})
	}
}

// A hundred publishers wait for a log of two messages. Each of them is called in its turn,
// and nearly never for nothing.
func TestWaitingPublishersAreCalledInOrderAsFarAsThereIsRoom(t *testing.T) {
	s := NewSpace(ringBytesMin, 1, NewBudget(1<<20))
	m := join(t, s, "x", padded(0))
	defer s.Leave(&m.Reader)
	c := s.Find("x")
	for publishSize(c, most, nil) == nil {
	}
	type caller struct{ counting }
	var all []*caller
	for range 100 {
		w := new(caller)
		if err := publishSize(c, most, w); !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
		all = append(all, w)
	}
	var order []int
	tries := 0
	for range 1000 {
		i := slices.IndexFunc(all, func(w *caller) bool { return w.told > 0 })
		if i < 0 {
			m.serve()
			continue
		}
		all[i].told = 0
		switch err := publishSize(c, most, all[i]); {
		case i%7 == 3: // it has given up, which it may do at any time
			c.Forget(all[i])
		case errors.Is(err, ErrFull):
		case err != nil:
			t.Fatal(err)
		default:
			order = append(order, i)
		}
		tries++
	}
	if !slices.IsSorted(order) || len(order) != 100-14 {
		t.Errorf("%d of %d have published, in the order %v", len(order), 100-14, order)
	}
	if tries > 110 {
		t.Errorf("they tried %d times, want hardly more than once each", tries)
	}
}

// One that was called and refused once more is not passed a second time.
func TestNobodyIsPassedTwice(t *testing.T) {
	s := NewSpace(ringBytesMin, 1, NewBudget(1<<20))
	slow := newBlocking(0)
	m := join(t, s, "x", slow)
	c := s.Find("x")
	w := new(counting)
	published := encoding(c, slow, 5, nil)
	if err := publishSize(c, 5, w); !errors.Is(err, ErrTurn) {
		t.Fatal(err)
	}
	slow.release <- struct{}{}
	if err := <-published; err != nil || w.told != 1 {
		t.Fatalf("%v, called %d times", err, w.told)
	}
	published = encoding(c, slow, 5, nil) // there is room for both: it passes
	if err := publishSize(c, 5, w); !errors.Is(err, ErrTurn) {
		t.Fatal(err)
	}
	slow.release <- struct{}{}
	if err := <-published; err != nil || w.told != 2 {
		t.Fatalf("%v, called %d times", err, w.told)
	}
	if err := publishSize(c, 5, nil); !errors.Is(err, ErrFull) {
		t.Errorf("another passes it once more: %v", err)
	}
	close(slow.release)
	go func() { <-slow.entered }()
	if err := publishSize(c, 5, w); err != nil {
		t.Errorf("it is its turn: %v", err)
	}
	s.Leave(&m.Reader)
}

// A buffer that a large publication has needed is let go, and counted as long as it is there.
func TestLargeScratchIsLetGo(t *testing.T) {
	s := NewSpace(8<<20, 1, NewBudget(64<<20))
	slow := newBlocking(0)
	first, second := join(t, s, "x", padded(0)), join(t, s, "x", slow)
	c := s.Find("x")
	scratch := new(Scratch)
	published := make(chan error)
	publish := func(n int) {
		_, err := c.Publish(&Publication{Payload: make([]byte, n)}, scratch, nil)
		published <- err
	}
	go publish(2 << 20)
	<-slow.entered
	if n := s.Encoding(); n < 2<<20 {
		t.Errorf("%d bytes are counted while 2 MiB are encoded", n)
	}
	slow.release <- struct{}{}
	if err := <-published; err != nil || s.Encoding() != 0 || cap(scratch.buf) > 0 {
		t.Errorf("%v, %d bytes are counted, %d held", err, s.Encoding(), cap(scratch.buf))
	}
	go publish(1000)
	<-slow.entered
	slow.release <- struct{}{}
	if err := <-published; err != nil || cap(scratch.buf) == 0 {
		t.Errorf("%v; a small buffer is let go", err)
	}
	s.Leave(&first.Reader)
	s.Leave(&second.Reader)
}

// Publishers by the dozen, each of which now and then gives up, dies as it is called, or
// meets a format that panics: all others get through.
func TestNoWaitingPublisherIsForgotten(t *testing.T) {
	s := NewSpace(ringBytesMin, 1, NewBudget(1<<20))
	stop := make(chan struct{})
	l := newRaceLoop(t, s, "c", padded(0), 2)
	var reading, publishing sync.WaitGroup
	reading.Go(func() { l.run(stop) })
	for i := range 12 {
		publishing.Go(func() {
			p := &racePublisher{released: make(chan struct{}, 1)}
			for n := range uint64(1500) {
				c := s.Find("c")
				if n%5 == uint64(i)%5 { // it does not wait to be called, or does, and then dies
					_, err := c.Publish(&Publication{Payload: make([]byte, 50)}, &p.scratch, p)
					if errors.Is(err, ErrFull) {
						if n%2 == 0 {
							<-p.released
						}
						c.Forget(p)
						select {
						case <-p.released:
						default:
						}
					}
					continue
				}
				if _, err := p.publish(s, "c", uint64(i)<<32|n, 8+int(n%9)*25); err != nil {
					t.Error(fmt.Errorf("publisher %d, publication %d: %w", i, n, err))
					return
				}
			}
		})
	}
	publishing.Wait()
	if c := s.Find("c"); len(c.waiters) != 0 || c.called != 0 || c.turn.Load() {
		t.Errorf("%d wait, %d are called, turn taken: %t", len(c.waiters), c.called, c.turn.Load())
	}
	close(stop)
	reading.Wait()
	s.Leave(&l.Reader)
}

// What is recalled of a large publication is not encoded under the lock, and the last piece
// goes on where the log does.
func TestNobodyWaitsForALargeRecovery(t *testing.T) {
	s := historySpace(History{Of: keeping(10, 1<<40), Bytes: 1 << 20})
	c := mustOpen(t, s, "x")
	for _, n := range []int{10, recallSmall + 1, 20, recallSmall + 2} {
		mustPublish(t, c, Publication{Payload: make([]byte, n), Extra: []byte("extra")})
	}
	slow := newBlocking(0)
	m := join(t, s, "x", slow)
	type piece struct {
		Recalled
		live uint64
	}
	at, want := Position{c.Epoch(), 0}, []int{10, recallSmall + 1, 20, recallSmall + 2}
	for i, n := range want {
		got := make(chan piece)
		go func() {
			r, live := m.Recall(nil, m.log.format, Ask{Kind: AskSince, At: at}, 1<<20, 0, new(Scratch))
			got <- piece{r, live}
		}()
		<-slow.entered
		if n > recallSmall {
			if newest := c.Newest(); newest.Offset != 4 {
				t.Errorf("the newest is %v", newest)
			}
		}
		slow.release <- struct{}{}
		r := <-got
		if r.Gap || r.Count != 1 || len(r.Frames) != slow.size(n) || r.To.Offset != uint64(i+1) || r.More != (i < 3) || !r.More && r.live != m.Log().Head() {
			t.Errorf("piece %d: %d bytes of %d publications, gap %t, more %t, to %v, live from %d", i, len(r.Frames), r.Count, r.Gap, r.More, r.To, r.live)
		}
		at = r.To
	}
	s.Leave(&m.Reader)
}
