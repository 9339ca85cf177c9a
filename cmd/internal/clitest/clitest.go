// Package clitest runs command lines in the process of a test. Only tests import it.
package clitest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"sluice/bench/child"
	"sluice/cmd/internal/cli"
)

// Patience bounds every wait of these tests.
const Patience = time.Minute

// WriteFile writes a file with a name into a new directory and returns its path.
func WriteFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	must(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// Run runs a command line that ends by itself.
func Run(root *cobra.Command, stdin string, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	code = cli.Run(ctx, root, args, strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

// Running is a command line that runs.
type Running struct {
	Stdout *Output
	Stderr *Output
	Stop   context.CancelCauseFunc // as a signal does

	t      *testing.T
	Exited chan struct{}
	code   int
}

// Start runs a command line until it ends, or the test does.
func Start(t *testing.T, root *cobra.Command, stdin io.Reader, args ...string) *Running {
	t.Helper()
	ctx, cancel := context.WithCancelCause(context.Background())
	r := &Running{t: t, Stdout: NewOutput(), Stderr: NewOutput(), Stop: cancel, Exited: make(chan struct{})}
	go func() {
		defer close(r.Exited)
		r.code = cli.Run(ctx, root, args, stdin, r.Stdout, r.Stderr)
	}()
	t.Cleanup(func() {
		cancel(context.Canceled)
		<-r.Exited
	})
	return r
}

// WantExit waits for the end and checks the exit code, and that stderr contains each of
// says.
func (r *Running) WantExit(code int, says ...string) {
	r.t.Helper()
	select {
	case <-r.Exited:
	case <-time.After(Patience):
		r.t.Fatalf("still running; stderr:\n%s", r.Stderr)
	}
	if r.code != code {
		r.t.Errorf("exit code %d, want %d; stderr:\n%s", r.code, code, r.Stderr)
	}
	for _, s := range says {
		if !strings.Contains(r.Stderr.String(), s) {
			r.t.Errorf("stderr does not say %q:\n%s", s, r.Stderr)
		}
	}
	for line := range strings.Lines(r.Stderr.String()) {
		if !strings.HasPrefix(line, "sluice: ") && !strings.HasPrefix(line, "{") { // the log is JSON
			r.t.Errorf("a line of stderr is not of the house form: %q", line)
		}
	}
}

// Output collects what a command writes and lets tests wait for it.
type Output struct{ child.Log }

// NewOutput returns an empty Output.
func NewOutput() *Output { return new(Output) }

// Wait waits until the output contains part.
func (o *Output) Wait(t *testing.T, part string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if o.Await(ctx, func(text string) bool { return strings.Contains(text, part) }) != nil {
		text := o.String()
		t.Fatalf("no %q in the output, which ends with:\n%s", part, text[max(0, len(text)-1000):])
	}
}

// KeyFiles writes a key pair in PEM.
func KeyFiles(t *testing.T, key crypto.Signer) (private, public string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	private = writePEM(t, "key.pem", "PRIVATE KEY", der)
	der, err = x509.MarshalPKIXPublicKey(key.Public())
	must(t, err)
	return private, writePEM(t, "public.pem", "PUBLIC KEY", der)
}

func writePEM(t *testing.T, name, kind string, der []byte) string {
	t.Helper()
	return WriteFile(t, name, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
