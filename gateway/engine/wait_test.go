package engine

import (
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
)

func TestMain(m *testing.M) { os.Exit(clienttest.RunTests(m)) }

func TestWait(t *testing.T) {
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		after time.Duration // negative: never
		err   error
		ctx   time.Duration // when the caller gives up
		want  error
		took  time.Duration
	}{
		"at once":                    {after: 0, ctx: time.Hour},
		"at once, with an error":     {err: broken, ctx: time.Hour, want: broken},
		"at once, ctx has ended":     {after: 0, ctx: 0},
		"later":                      {after: time.Second, ctx: time.Hour, took: time.Second},
		"later, with an error":       {after: time.Second, err: broken, ctx: time.Hour, want: broken, took: time.Second},
		"after the caller's time":    {after: time.Second, ctx: time.Millisecond, want: ErrUnavailable, took: time.Millisecond},
		"after the time that is set": {after: Patience + time.Second, ctx: time.Hour, want: ErrUnavailable, took: Patience},
		"never":                      {after: -1, ctx: time.Hour, want: ErrUnavailable, took: Patience},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(context.Background(), test.ctx)
				defer cancel()
				begun := time.Now()
				got, err := Wait(ctx, func(done func(string, error)) {
					switch {
					case test.after == 0:
						done("it", test.err)
					case test.after > 0:
						time.AfterFunc(test.after, func() { done("it", test.err) })
					}
				})
				if want := map[bool]string{true: "it"}[test.want != ErrUnavailable]; got != want || err != test.want || time.Since(begun) != test.took {
					t.Errorf("got %q, %v after %v; want %q, %v after %v", got, err, time.Since(begun), want, test.want, test.took)
				}
				time.Sleep(2 * Patience) // the late answer blocks nobody
			})
		})
	}
}

// later is an engine that answers when the test says so.
type later struct {
	Engine
	callers chan Caller
}

func (e *later) Publish(_ string, _ *channel.Channel, _ *channel.Publication, _ *channel.Scratch, c Caller) (channel.Receipt, error) {
	e.callers <- c
	return channel.Receipt{}, ErrPending
}

// A publication whose publisher has given up may be answered later: that answer is for no other one.
func TestLateAnswerIsNotForAnotherPublication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &later{callers: make(chan Caller, 1)}
		p := NewPublisher(e, channel.NewSpace(4<<10, 10, channel.NewBudget(1<<20)), 10)
		publish := func() (channel.Receipt, error) {
			return p.Publish(t.Context(), 0, "x", channel.Publication{Payload: []byte("x")})
		}
		const rounds = 100
		for i := range uint64(rounds) {
			begun := time.Now()
			if _, err := publish(); err != ErrUnavailable || time.Since(begun) != Patience || FaultOf(err) != Unavailable {
				t.Fatalf("without an answer: %v after %v; want ErrUnavailable after %v", err, time.Since(begun), Patience)
			}
			late := <-e.callers
			time.AfterFunc(time.Second, func() { late.Published(channel.Receipt{Offset: rounds + i}, nil) })
			time.AfterFunc(2*time.Second, func() { (<-e.callers).Published(channel.Receipt{Offset: i}, nil) })
			if r, err := publish(); err != nil || r.Offset != i {
				t.Fatalf("got %d, %v; want the answer to this publication, %d", r.Offset, err, i)
			}
		}
		if n := p.Accepted(); n != rounds {
			t.Errorf("%d publications are counted, want %d", n, rounds)
		}
	})
}
