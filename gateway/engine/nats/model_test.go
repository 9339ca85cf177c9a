package nats

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"os"
	"strconv"
	"sync/atomic"
	"testing"

	"sluice/gateway/clienttest"
	"sluice/gateway/engine/enginetest"
	"sluice/gateway/engine/nats/natstest"
)

// modelRigs returns what scripts run on: a node with a store of its own, and nodes with a server.
func modelRigs(t testing.TB) map[string]*enginetest.Rig {
	single := newNode(t, func(c *Config) { c.DataDir = natstest.Dir(t) })
	ready(t, single)
	return map[string]*enginetest.Rig{
		"one node":  {Nodes: []*enginetest.Node{single}, TimesOut: true, Fills: true},
		"two nodes": startCluster(t, 2, natstest.Start(t, natstest.Options{JetStream: true}).URL()).rig(),
	}
}

// Subscriptions, publications, losses, disconnects and returns have the outcome that a map of slices
// has.
func TestModel(t *testing.T) {
	t.Parallel()
	scripts := many(t, "SLUICE_TEST_SCRIPTS", clienttest.Scaled(60, 15))
	for name, rig := range modelRigs(t) {
		for seed := range uint64(scripts) {
			t.Run(fmt.Sprint(name, ", seed ", seed), func(t *testing.T) {
				enginetest.Model(t, rig, fmt.Sprint("-", seed), enginetest.RandomScript(seed, 40))
			})
		}
	}
}

// many returns the size of a test: that of an environment variable, if it is set.
func many(t testing.TB, variable string, n int) int {
	t.Helper()
	if text := os.Getenv(variable); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatalf("%s: %v", variable, err)
		}
	}
	return n
}

// FuzzModel runs any scripts.
func FuzzModel(f *testing.F) {
	f.Add(binary.LittleEndian.AppendUint64(nil, 1))
	f.Add(enginetest.RandomScript(1, 40))
	rigs := modelRigs(f)
	var runs atomic.Int64
	f.Fuzz(func(t *testing.T, script []byte) {
		script = script[:min(len(script), 400)]
		h := fnv.New64()
		h.Write(script) // never fails
		for _, rig := range rigs {
			enginetest.Model(t, rig, fmt.Sprintf("-%x-%d", h.Sum64(), runs.Add(1)), script)
		}
	})
}
