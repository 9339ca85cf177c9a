package hook

import (
	"context"
	"errors"
	"testing"
	"time"
)

// The metrics have the figures of functions, under the names of their events, and of nothing else.
func TestSetHasTheFiguresOfItsFunctions(t *testing.T) {
	if s := NewSet(Hooks{}); s.Stats != nil {
		t.Errorf("no hooks, and figures %+v", s.Stats())
	}
	publish := Func(func(context.Context, *PublishRequest) (*PublishResult, error) { return nil, errors.New("no") }, Options{Timeout: time.Minute})
	defer publish.Close()
	s := NewSet(Hooks{Publish: publish, Connect: unmeasured{}})
	done := make(chan error, 1)
	publish.Ask(&PublishRequest{Client: new(Identity)}, func(_ *PublishResult, err error) { done <- err })
	if err := <-done; OutcomeOf(err).String() != "failed" {
		t.Errorf("%v is %v", err, OutcomeOf(err))
	}
	got := s.Stats()
	if len(got) != 1 || got[0].Event != "publish" || got[0].Name != Default || got[0].Timeout != time.Minute {
		t.Errorf("%+v", got)
	}
}

type unmeasured struct{}

func (unmeasured) Ask(_ *ConnectRequest, answer func(*ConnectResult, error)) func() {
	answer(nil, nil)
	return func() {}
}
