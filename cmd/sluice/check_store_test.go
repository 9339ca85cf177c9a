//go:build !nonats

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"sluice/gateway/engine/nats/natstest"
)

func TestCheckLooksAtTheDataDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	args := append(freePorts, "--data-max", "16MiB", "--data-dir")
	wantFinding(t, runCheck(t, 0, nil, append(args, dir)...), "ok --data-dir "+dir+": will be created")
	if _, err := os.Stat(dir); err == nil {
		t.Error("check has created the directory")
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantFinding(t, runCheck(t, 1, nil, append(args, dir)...), "fault --data-dir "+dir+": not a directory")
}

func TestCheckLooksAtTheServers(t *testing.T) {
	s := natstest.Start(t, natstest.Options{JetStream: true})
	found := runCheck(t, 0, nil, append(freePorts, "--nats-url", s.URL()+",nats://127.0.0.1:1")...)
	wantFinding(t, found, "ok --nats-url "+s.URL()+": JetStream is on, and each history is stored once")
	wantFinding(t, found, "warning --nats-url nats://127.0.0.1:1: connect: connection refused; the gateway uses the others")
	closed := natstest.Start(t, natstest.Options{JetStream: true, Tune: func(o *server.Options) { o.Username, o.Password = "gateway", "secret" }})
	wantFinding(t, runCheck(t, 1, nil, append(freePorts, "--nats-url", closed.URL())...),
		"fault --nats-url "+closed.URL()+": Authorization Violation; check --nats-creds or --nats-nkey, or the user in --nats-url, and that the servers know that user")
	wantFinding(t, runCheck(t, 1, nil, append(freePorts, "--nats-url", s.URL(), "--nats-creds", "nowhere")...),
		"fault --nats-url "+s.URL()+": --nats-creds nowhere: no such file or directory")
	small := natstest.Start(t, natstest.Options{JetStream: true, Tune: func(o *server.Options) { o.MaxPayload = 32 << 10 }})
	found = runCheck(t, 1, nil, append(freePorts, "--nats-url", small.URL())...)
	if all := strings.Join(found, "\n"); !strings.Contains(all, "fault --nats-url "+small.URL()+": --max-message does not fit max_payload 32 KiB") {
		t.Errorf("nothing is said about the size of messages:\n%s", all)
	}
}
