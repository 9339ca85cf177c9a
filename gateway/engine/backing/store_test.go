package backing

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/gateway/setting"
)

func TestSettingsThatDoNotFitAreFaults(t *testing.T) {
	if !built {
		t.Skip("this build has no NATS: every setting of it is a fault")
	}
	servers := []string{"nats://n1"}
	for _, tt := range []struct {
		name string
		s    Store
		want string // lines
	}{
		{"nothing", Store{}, ""},
		{"a directory", Store{DataDir: "/d", HistorySync: SyncAlways, DataMax: 1 << 30}, ""},
		{"servers", Store{NATSURL: []string{"tls://n1:4222", "n2", "nats://u:p@[::1]:4222/"}, NATSCreds: "c", NATSTLSCA: "a", NATSTLSCert: "b", NATSTLSKey: "k", NATSPrefix: "a-b9", NATSReplicas: 3}, ""},
		{"both", Store{DataDir: "/d", NATSURL: servers},
			"DataDir /d cannot be combined with NATSURL: histories are stored either by this gateway or on the NATS servers; use only one of them"},
		{"always without a directory", Store{NATSURL: servers, HistorySync: SyncAlways},
			"HistorySync always has no effect without DataDir: remove it; NATS servers have a setting of their own for it (sync_interval)"},
		{"no servers", Store{NATSCreds: "c", NATSReplicas: 1}, "NATSCreds c has no effect without NATSURL: add that, or remove this\n" +
			"NATSReplicas 1 has no effect without NATSURL: add that, or remove this"},
		{"no servers, a prefix", Store{DataDir: "/d", NATSPrefix: "chat"}, "NATSPrefix chat has no effect without NATSURL: add that, or remove this"},
		{"no servers, the default prefix", Store{NATSPrefix: "sluice"}, ""},
		{"nothing to bound", Store{DataMax: 1 << 30}, "DataMax 1GiB has no effect without DataDir or NATSURL: add one of them, or remove this"},
		{"two credentials", Store{NATSURL: servers, NATSCreds: "c", NATSNkey: "n"}, "NATSNkey n cannot be combined with NATSCreds, which has a seed of its own: use only one of them"},
		{"half a certificate", Store{NATSURL: servers, NATSTLSCert: "c"}, "NATSTLSCert c needs its key: add NATSTLSKey"},
		{"the other half", Store{NATSURL: servers, NATSTLSKey: "k"}, "NATSTLSKey k needs its certificate: add NATSTLSCert"},
		{"replicas", Store{NATSURL: servers, NATSReplicas: 2}, "NATSReplicas 2 is not a number of replicas: use 1, 3 or 5"},
		{"prefix", Store{NATSURL: servers, NATSPrefix: "a.b"}, "NATSPrefix a.b must be a word of up to 32 lower-case letters, digits and '-'"},
		{"prefix in upper case", Store{NATSURL: servers, NATSPrefix: "Chat"}, "NATSPrefix Chat must be a word of up to 32 lower-case letters, digits and '-'"},
		{"URLs", Store{NATSURL: []string{"http://n1", "nats://", "nats://n1/x", "nats://%zz", "nats://n1:x{"}},
			`NATSURL http://n1 has the scheme "http", which NATS does not have: use nats://HOST:PORT or tls://HOST:PORT
NATSURL nats:// has no host: use nats://HOST:PORT or tls://HOST:PORT
NATSURL nats://n1/x has more than a host and a port: use nats://HOST:PORT or tls://HOST:PORT
NATSURL nats://%zz is not a URL (invalid URL escape "%zz"): use nats://HOST:PORT or tls://HOST:PORT
NATSURL nats://n1:x{ is not a URL (invalid port ":x{" after host); use nats://HOST:PORT or tls://HOST:PORT`},
		{"URLs with passwords", Store{NATSURL: []string{"http://u:secret@n1", "u:se/cret@n2"}},
			`NATSURL http://u:xxxxx@n1 has the scheme "http", which NATS does not have: use nats://HOST:PORT or tls://HOST:PORT
NATSURL u:xxxxx@n2 is not a URL; in a password, characters other than letters and digits must be percent-encoded: use nats://HOST:PORT or tls://HOST:PORT`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			setting.Defaults(&tt.s)
			var faults setting.Faults
			Validate(&tt.s, &faults)
			if diff := cmp.Diff(tt.want, faults.Error()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A server's password is not in the log, and entries without a scheme have the first one's.
func TestFormsAreDescribed(t *testing.T) {
	for _, tt := range []struct {
		s    Store
		form Form
		want string
	}{
		{Store{}, Memory, "memory"},
		{Store{DataDir: "/var/lib/sluice"}, Disk, "/var/lib/sluice"},
		{Store{NATSURL: []string{"tls://user:secret@n1:4222", "n2", "nats://n3"}}, Servers, "tls://user:xxxxx@n1:4222,tls://n2,nats://n3"},
	} {
		if form, got := FormOf(&tt.s); form != tt.form || got != tt.want {
			t.Errorf("%v, %q; want %v, %q", form, got, tt.form, tt.want)
		}
	}
}

func TestEngineInMemoryNeedsNothing(t *testing.T) {
	e, err := Open(context.Background(), new(Store), Gateway{})
	if err != nil || e.Waits() != "" || e.ConnectionBits() != 0 || e.Close(context.Background()) != nil {
		t.Errorf("%v; waits for %q", err, e.Waits())
	}
	stop := make(chan struct{})
	close(stop)
	e.Watch(stop, func(err error) { t.Errorf("it has failed: %v", err) })
	if host, _ := os.Hostname(); e.Name != host {
		t.Errorf("its name is %q, want %q", e.Name, host)
	}
	if e, _ := Open(context.Background(), new(Store), Gateway{Name: "a"}); e.Name != "a" {
		t.Errorf("its name is %q, want a", e.Name)
	}
}

func TestEngineIsWaitedFor(t *testing.T) {
	ready, failed := false, make(chan error, 1)
	e := Engine{ID: drawID(), waits: "it is not there", ready: func() bool { return ready }, failed: failed,
		close: func(ctx context.Context) error { return ctx.Err() }}
	if e.Waits() != "it is not there" {
		t.Errorf("waits for %q", e.Waits())
	}
	if ready = true; e.Waits() != "" {
		t.Errorf("waits for %q", e.Waits())
	}
	failed <- errors.New("gone")
	e.Watch(nil, func(err error) {
		if err.Error() != "gone" {
			t.Errorf("failed: %v", err)
		}
	})
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := e.Close(ended); err != nil {
		t.Errorf("the engine has no time to end after a forced stop: %v", err)
	}
	if e.ConnectionBits() == 0 || e.ConnectionBits()>>connectionBits != 0 {
		t.Errorf("connections' IDs begin with %#x", e.ConnectionBits())
	}
}

// Machines of one image have one name, so nodes add to it.
func TestNamesAreDrawn(t *testing.T) {
	a, b := drawName(), drawName()
	if host := hostName(); a == b || !strings.HasPrefix(a, host) || len(a) < len(host)+8 {
		t.Errorf("drawn are %q and %q", a, b)
	}
}
