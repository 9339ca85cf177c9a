package channel

import (
	"fmt"
	"testing"
)

func TestPublishingAndReadingAllocateNothing(t *testing.T) {
	s := NewSpace(64<<10, 1, NewBudget(1<<20))
	plain, wide := join(t, s, "c", padded(0)), join(t, s, "c", padded(9))
	c := s.Find("c")
	p := &Publication{Payload: make([]byte, 64), From: 7}
	var scratch Scratch
	var w Waiter = new(counting)
	var bytes int
	round := func() {
		for range 100 {
			if _, err := c.Publish(p, &scratch, w); err != nil {
				t.Fatal(err)
			}
		}
		for _, m := range []*member{plain, wide} {
			m.Clear()
			cursor, head := m.served.Load(), m.Log().Head()
			for cursor < head {
				v := m.view(cursor)
				to := v.Fit(cursor, head, 1000)
				a, b := v.Bytes(cursor, to)
				bytes += len(a) + len(b) + int(v.Find(to)-v.Find(cursor))
				cursor = v.Floor(cursor, to)
			}
			m.Served(cursor)
		}
	}
	round() // grows the rings and the scratch
	if got := testing.AllocsPerRun(100, round); got != 0 {
		t.Errorf("%v allocations in 100 publications with two formats and their reading", got)
	}
	s.Leave(&plain.Reader)
	s.Leave(&wide.Reader)
}

func BenchmarkPublish(b *testing.B) {
	for _, formats := range []int{1, 3} {
		b.Run(fmt.Sprint("formats=", formats), func(b *testing.B) {
			s := NewSpace(256<<10, 1, NewBudget(16<<20))
			var all []*member
			for i := range formats {
				all = append(all, join(b, s, "c", padded(i)))
			}
			c := s.Find("c")
			p := &Publication{Payload: make([]byte, 64)}
			var scratch Scratch
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if _, err := c.Publish(p, &scratch, nil); err != nil {
					b.Fatal(err)
				}
				if n%256 == 0 {
					for _, m := range all {
						m.serve()
					}
				}
			}
			for _, m := range all {
				s.Leave(&m.Reader)
			}
		})
	}
}

// benchLog gives a reader of a log with so many entries.
func benchLog(b *testing.B, entries int) (*Space, *member) {
	s := NewSpace(4<<20, 1, NewBudget(64<<20))
	m := join(b, s, "c", padded(0))
	c := s.Find("c")
	for range entries {
		if err := publishSize(c, 64, nil); err != nil {
			b.Fatal(err)
		}
	}
	return s, m
}

func BenchmarkFit(b *testing.B) {
	for _, entries := range []int{16, 2048} {
		b.Run(fmt.Sprint("entries=", entries), func(b *testing.B) {
			s, m := benchLog(b, entries)
			head := m.Log().Head()
			n := int(head / 2)
			b.ReportAllocs()
			for b.Loop() {
				if to := m.view(0).Fit(0, head, n); to == 0 || to == head {
					b.Fatal(to)
				}
			}
			s.Leave(&m.Reader)
		})
	}
}

func BenchmarkFind(b *testing.B) {
	for _, entries := range []int{16, 2048} {
		b.Run(fmt.Sprint("entries=", entries), func(b *testing.B) {
			s, m := benchLog(b, entries)
			cursor := m.Log().Head() / 3
			b.ReportAllocs()
			for b.Loop() {
				m.view(cursor).Find(cursor)
			}
			s.Leave(&m.Reader)
		})
	}
}
