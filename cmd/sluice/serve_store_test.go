//go:build !nonats

package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"sluice/bench/child"
	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/clitest"
	"sluice/gateway/engine/nats/natstest"
)

// The log says "ready" when /readyz does, and meanwhile why not.
func TestServeIsReadyWhenItsServersAre(t *testing.T) {
	servers := natstest.Start(t, natstest.Options{JetStream: true})
	servers.Stop()
	s := launchHereWith(t, nil, "--nats-url", servers.URL())
	if why := s.log.wait(t, "not ready")["because"]; why != "the NATS servers have not answered yet" {
		t.Errorf("it is not ready because %q", why)
	}
	if why, _ := s.log.wait(t, "waiting for NATS")["error"].(string); !strings.Contains(why, "connection refused") {
		t.Errorf("it waits because of %q", why)
	}
	if strings.Contains(s.log.String(), `"msg":"ready"`) {
		t.Errorf("it says that it is ready:\n%s", s.log)
	}
	servers.Restart()
	s.awaitReady()
	s.stop()
}

// What the servers refuse ends the gateway, with a line that names its settings as its user knows them.
func TestServeNamesTheSettingsThatServersRefuse(t *testing.T) {
	for name, test := range map[string]struct {
		servers natstest.Options
		args    []string
		want    string
	}{
		"no JetStream":   {natstest.Options{}, nil, "the servers of --nats-url have no JetStream"},
		"small messages": {natstest.Options{JetStream: true, Tune: func(o *server.Options) { o.MaxPayload = 32 << 10 }}, nil, "--max-message 64KiB does not fit NATS's max_payload of 32KiB: lower it"},
		"no file":        {natstest.Options{JetStream: true}, []string{"--nats-creds", "nowhere"}, "--nats-creds nowhere: no such file or directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, err := binary()
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), clitest.Patience)
			defer cancel()
			args := child.Listeners(append(test.args, "--nats-url", natstest.Start(t, test.servers).URL()))
			log, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
			if want := `"msg":"the gateway cannot serve its clients, exiting","error":"` + test.want; !strings.Contains(string(log), want) {
				t.Errorf("the log lacks %s:\n%s", want, log)
			}
			if end := (*exec.ExitError)(nil); !errors.As(err, &end) || end.ExitCode() != int(cli.ExitFailed) {
				t.Errorf("it ended with %v", err)
			}
		})
	}
}

// Faults of the data directory are faults of the setting that names it.
func TestServeNamesTheSettingOfItsDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "mark"), []byte(`{"version":2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	args := child.Listeners(nil)
	want := "sluice: --data-dir " + dir + ": written by a newer version of sluice"
	if code, _, stderr := runOnce(nil, append([]string{"serve"}, append(args, "--data-dir", dir)...)...); code != int(cli.ExitFailed) || !strings.HasPrefix(stderr, want) {
		t.Errorf("exit code %d, %q, want it to begin with %q", code, stderr, want)
	}
}
