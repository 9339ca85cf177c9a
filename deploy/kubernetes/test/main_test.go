// Package manifests renders what deploy/kubernetes and deploy/helm ship, as kustomize and Helm do,
// and tries it: the output is decoded strictly into the types of the Kubernetes API, its references
// are followed, and a gateway runs with the arguments, variables and files of each pod. There are
// only tests in it, and no cluster.
//
// It is a module of its own, so that Helm, kustomize and Kubernetes are no dependencies of the
// gateway. ./run builds the gateway and starts the tests.
package manifests

import (
	"os"
	"testing"
)

// The directories under test.
const (
	chartDir   = "../../helm/sluice"
	baseDir    = "../base"
	exampleDir = "../example"
	nodesDir   = "../nodes"
	durableDir = "../durable"
	natsDir    = "../nats"
	repository = "../../.."
)

// binary returns the gateway that ./run has built.
func binary(t *testing.T) string {
	t.Helper()
	path := os.Getenv("SLUICE_BIN")
	if path == "" {
		t.Skip("SLUICE_BIN names no gateway: use ./run")
	}
	return path
}

// read returns the content of a file.
func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
