//go:build !nonats

package main

import (
	"net/http"
	"testing"
	"time"

	"sluice/cmd/internal/clitest"
	"sluice/gateway/engine/nats/natstest"
)

// Commands that another node forwards reach their session, whichever of both nodes is upgraded.
func TestUpgradeOfNodesWithEmulatedClients(t *testing.T) {
	t.Parallel()
	url := natstest.Start(t, natstest.Options{}).URL()
	args := []string{"--insecure", "--address-rate", "off", "--history", "off", "--nats-url", url}
	a, b := startLineage(t, append(args, "--node-name", "a")...), startLineage(t, append(args, "--node-name", "b")...)
	e := dialEmulated(t, a, b)
	for end := time.Now().Add(clitest.Patience); e.send(http.DefaultClient, `{"id":9,"ping":{}}`) != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the nodes do not know each other")
		}
	}
	if line, err := e.in.ReadString('\n'); line != `{"id":9,"ping":{}}`+"\n" {
		t.Fatalf("ping: %q, %v", line, err)
	}
	underUpgrades(t, e, a, b)
}
