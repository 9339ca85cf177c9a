package nats

import (
	"strings"
	"testing"

	"sluice/gateway/engine/nats/natstest"
)

func TestInspectServers(t *testing.T) {
	t.Parallel()
	on := natstest.Start(t, natstest.Options{JetStream: true})
	off := natstest.Start(t, natstest.Options{})
	gone := "nats://user:secret@127.0.0.1:1"
	got := InspectServers(t.Context(), Servers{URLs: []string{on.URL(), off.URL(), gone}}, 2<<20)
	t.Logf("%+v", got)
	for _, r := range got[:2] {
		if r.Err != nil || r.Version == "" || r.TooOld != "" || r.Servers != 1 || r.Cluster != "" {
			t.Errorf("%+v", r)
		}
		if r.MaxPayload != 1<<20 || r.NeedPayload <= 2<<20 {
			t.Errorf("payload %d, needed %d", r.MaxPayload, r.NeedPayload)
		}
		if d := r.Clock.Abs(); !r.ClockKnown || d > r.ClockError {
			t.Errorf("clock %v give or take %v, known: %t; it is the same machine", d, r.ClockError, r.ClockKnown)
		}
	}
	if got[0].JetStream != nil {
		t.Errorf("JetStream: %v", got[0].JetStream)
	}
	if got[1].JetStream == nil {
		t.Error("JetStream is on where it is off")
	}
	if r := got[2]; r.Err == nil || strings.Contains(r.URL+r.Err.Error(), "secret") {
		t.Errorf("%+v", r)
	}
}

func TestInspectOldServer(t *testing.T) {
	t.Parallel()
	s := natstest.StartChild(t)
	r := InspectServers(t.Context(), Servers{URLs: []string{s.URL()}}, 64<<10)[0]
	t.Logf("%+v", r)
	if r.Err != nil || r.JetStream != nil || r.TooOld != "" || r.MaxPayload < r.NeedPayload {
		t.Errorf("%+v", r)
	}
	if d := r.Clock.Abs(); r.ClockKnown && d > r.ClockError {
		t.Errorf("clock %v give or take %v; it is the same machine", d, r.ClockError)
	}
	if strings.HasPrefix(r.Version, "2.9.") && r.Advice == "" {
		t.Errorf("nothing is known against %s", r.Version)
	}
}
