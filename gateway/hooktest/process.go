package hooktest

import (
	"bufio"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// all is whether tests use all backends, and not the one in Go alone.
var all = flag.Bool("backends", false, "ask backends in Express and Flask as well, which gateway/hooktest/run installs")

// Kinds returns the backends that are to be tested with.
func Kinds() []string {
	if *all {
		return []string{"Go", "Express", "Flask"}
	}
	return []string{"Go"}
}

// Run starts a backend of a kind, which ends with the test, and returns the URL before the name of
// an event.
func Run(t testing.TB, kind string) (url string) {
	t.Helper()
	var command []string
	switch kind {
	case "Go":
		return Start(t).URL
	case "Express":
		command = []string{"node", filepath.Join(directory(t), "express.mjs")}
	case "Flask":
		command = []string{"/usr/bin/python3", filepath.Join(directory(t), "flask_backend.py")} // Debian's, for its modules
	}
	cmd := exec.Command(command[0], command[1:]...)
	var said strings.Builder
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()     // ignored: it ends as well if it is killed
		_ = cmd.Wait() // ignored: how a backend ends is not tested
		if t.Failed() {
			t.Logf("%s said:\n%s", kind, said.String())
		}
	})
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%s has not started: %v", kind, err)
	}
	return "http://127.0.0.1:" + strings.TrimSpace(port)
}

// directory returns that of this package.
func directory(t testing.TB) string {
	t.Helper()
	at, err := os.Getwd()
	for err == nil && at != "/" {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return filepath.Join(at, "gateway/hooktest")
		}
		at = filepath.Dir(at)
	}
	t.Fatalf("no go.mod above %s, %v", at, err)
	return ""
}

// Asked returns what a backend was asked since the last time.
func Asked(t testing.TB, url string) (lines []string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get(url + "/asked")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if err := json.NewDecoder(r.Body).Decode(&lines); err != nil {
		t.Fatal(err)
	}
	return lines
}
