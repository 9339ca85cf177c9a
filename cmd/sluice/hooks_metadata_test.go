package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sluice/bench/child"
)

// An address at which clouds serve credentials is not called either if a name stands for it. The name is in a hosts file that
// the gateway sees alone, for which it needs a mount namespace.
func TestHookWhoseNameIsAnAddressOfMetadata(t *testing.T) {
	t.Parallel()
	hosts := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(hosts, []byte("127.0.0.1 localhost\n169.254.169.254 four.test\nfd00:ec2::254 six.test\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	script := `mount --bind "$0" /etc/hosts && exec "$@"`
	if out, err := exec.Command("unshare", "-m", "sh", "-c", script, hosts, "true").CombinedOutput(); err != nil {
		t.Skipf("no mount namespace: %v: %s", err, out)
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"four.test", "six.test"} {
		args := child.Listeners([]string{"--connect-hook", "http://" + name + "/latest/meta-data/", "--hook-timeout", "30s"})
		p, err := child.Start(exec.Command("unshare", append([]string{"-m", "sh", "-c", script, hosts, path}, args...)...))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Kill)
		s := &sluice{t: t, log: serveLog{&p.Log}, exited: p.Ended}
		s.awaitReady()
		r, err := http.Get(s.url + "/sse/news")
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s: status %d", name, r.StatusCode)
		}
		if r := s.log.wait(t, "hook failed"); !strings.Contains(fmt.Sprint(r["error"]), "this is an address at which clouds serve credentials, and is never called") {
			t.Errorf("%s: %v", name, r)
		}
	}
}
