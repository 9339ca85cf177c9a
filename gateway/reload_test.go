package gateway

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A configuration with faults, or with a change that needs a restart, changes nothing.
func TestReloadIsAllOrNothing(t *testing.T) {
	t.Parallel()
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer receiver.Close()
	cfg := Config{MaxChannels: 7}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown(t.Context()) // ignored: it has no connections
	if r, err := s.Reload(cfg, ReloadOptions{}); err != nil || r.Changed != nil {
		t.Errorf("the same configuration: %+v, %v", r, err)
	}
	webhook := []Webhook{{URL: receiver.URL}}
	var faults Faults
	if _, err := s.Reload(Config{MaxChannels: -3, MaxFragments: -3, Webhooks: webhook}, ReloadOptions{}); !errors.As(err, &faults) || len(faults) != 2 {
		t.Errorf("with two faults: %v", err)
	}
	var restart *NeedsRestart
	if _, err := s.Reload(Config{Loops: 3, MaxChannels: 8, Webhooks: webhook, Store: Store{DataDir: "/nowhere"}}, ReloadOptions{}); !errors.As(err, &restart) {
		t.Errorf("with changes that need a restart: %v", err)
	} else if diff := cmp.Diff([]string{"DataDir", "Loops"}, restart.Fields); diff != "" {
		t.Error(diff)
	}
	if m := s.reloads.snapshot(); m.Successful || m.Outcomes["invalid"] != 1 || m.Outcomes["needs_restart"] != 1 || m.Outcomes["reloaded"] != 1 {
		t.Errorf("the metrics say %+v", m)
	}
	r, err := s.Reload(Config{MaxChannels: 7, Webhooks: webhook}, ReloadOptions{})
	if diff := cmp.Diff([]string{"Webhooks"}, r.Changed); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	if len(s.events.receivers) != 1 {
		t.Errorf("%d webhooks, want 1", len(s.events.receivers))
	}
}

// Reloads and upgrades exclude each other: what travels has one configuration.
func TestReloadsWaitForNoUpgrade(t *testing.T) {
	t.Parallel()
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.upgrades.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Reload(Config{MaxChannels: 7}, ReloadOptions{}); !errors.Is(err, ErrUpgradeRunning) {
		t.Errorf("while an upgrade runs: %v", err)
	}
	s.upgrades.end(false)
	if _, err := s.Reload(Config{MaxChannels: 7}, ReloadOptions{}); err != nil {
		t.Errorf("after an upgrade that has failed: %v", err)
	}
	s.Shutdown(t.Context()) // ignored: it has no connections
	if _, err := s.Reload(Config{MaxChannels: 8}, ReloadOptions{}); !errors.Is(err, ErrUpgradeStopping) {
		t.Errorf("after Shutdown: %v", err)
	}
}
