package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/clitest"
)

// runCheck runs `sluice check` with limits that suit any machine, and returns its
// findings, the verdict first.
func runCheck(t *testing.T, code int, env []string, args ...string) []string {
	t.Helper()
	got, stdout, stderr := runOnce(env, append([]string{"check", "--max-buffered", "16MiB"}, args...)...)
	if got != code || stderr != "" {
		t.Errorf("check %v: exit code %d, stderr %q; want %d\n%s", args, got, stderr, code, stdout)
	}
	return strings.Split(strings.TrimSpace(squeeze(stdout)), "\n")
}

// wantFinding fails unless one of the findings is this one.
func wantFinding(t *testing.T, found []string, want string) {
	t.Helper()
	for _, line := range found {
		if line == want {
			return
		}
	}
	t.Errorf("no finding %q in\n%s", want, strings.Join(found, "\n"))
}

var freePorts = []string{"--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0"}

func TestCheckOfWhatWorksHasNoFault(t *testing.T) {
	dir := t.TempDir()
	found := runCheck(t, 0, []string{"SLUICE_WEB_ROOT=" + dir}, append(freePorts, "--api-key-file", clitest.WriteFile(t, "key", "sesame"))...)
	wantFinding(t, found, "ok --listen 127.0.0.1:0: free")
	wantFinding(t, found, "ok --internal-listen 127.0.0.1:0: free")
	wantFinding(t, found, "ok --web-root "+dir+": is readable")
	wantFinding(t, found, "ok messages: --channel-buffer 256KiB allows messages of up to 127KiB to any number of subscribers; the buffers have room for 24 full channel logs or, over TLS, for the pending records of 512 connections whose sockets are full")
	for _, line := range found {
		if strings.HasPrefix(line, "fault") || strings.Contains(line, "sesame") {
			t.Error(line)
		}
	}
}

// --json has the same findings.
func TestCheckInJSON(t *testing.T) {
	args := append(freePorts, "--web-root", t.TempDir()+"/<none>")
	code, stdout, stderr := runOnce(nil, append([]string{"check", "--json", "--max-buffered", "16MiB"}, args...)...)
	var got struct {
		Findings []struct{ Verdict, Text string }
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != int(cli.ExitFailed) || stderr != "" {
		t.Fatalf("exit code %d, %v, stderr %q:\n%s", code, err, stderr, stdout)
	}
	var lines []string
	for _, f := range got.Findings {
		lines = append(lines, squeeze(f.Verdict+" "+f.Text))
	}
	if diff := cmp.Diff(runCheck(t, 1, nil, args...), lines); diff != "" || strings.Contains(stdout, "\\u003c") {
		t.Errorf("%s\n%s", diff, stdout)
	}
}

func TestCheckNamesABusyPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	busy := l.Addr().String()
	found := runCheck(t, cli.ExitFailed, []string{"SLUICE_LISTEN=" + busy}, "--internal-listen", "127.0.0.1:0")
	wantFinding(t, found, "fault --listen "+busy+": address already in use; stop the process that 'ss -ltnp' shows there, or use another port (set by SLUICE_LISTEN)")
	wantFinding(t, found, "ok --internal-listen 127.0.0.1:0: free")

	// One address that includes the other: found although each of them is free.
	l.Close()
	_, port, _ := net.SplitHostPort(busy)
	found = runCheck(t, cli.ExitFailed, nil, "--listen", "127.0.0.1:"+port, "--internal-listen", "0.0.0.0:"+port, "--api-key-file", clitest.WriteFile(t, "key", "k"))
	wantFinding(t, found, "fault --internal-listen 0.0.0.0:"+port+": address already in use; stop the process that 'ss -ltnp' shows there, or use another port")
}

func TestCheckLeavesSocketFilesAsTheyAre(t *testing.T) {
	dir := t.TempDir()
	fresh, left, file := filepath.Join(dir, "fresh"), filepath.Join(dir, "left"), filepath.Join(dir, "file")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: left, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	found := runCheck(t, cli.ExitFailed, nil, "--listen", "unix:"+fresh+",unix:"+left, "--internal-listen", "unix:"+file)
	wantFinding(t, found, "ok --listen unix:"+fresh+": free")
	wantFinding(t, found, "ok --listen unix:"+left+": free; serve will replace the stale socket file")
	nowhere := filepath.Join(dir, "no", "dir")
	wantFinding(t, runCheck(t, cli.ExitFailed, nil, "--listen", "unix:"+nowhere, "--internal-listen", "off"), "fault --listen unix:"+nowhere+
		": cannot create the socket: no such file or directory; use a path in an existing directory that sluice can write to")
	wantFinding(t, found, "fault --internal-listen unix:"+file+": the path exists and is not a socket; remove it, or use another path")
	if _, err := os.Lstat(fresh); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a socket file was left behind: %v", err)
	}
	if _, err := os.Lstat(left); err != nil {
		t.Errorf("the socket file is gone: %v", err)
	}
}

func TestCheckReportsEveryFaultOfTheSettings(t *testing.T) {
	file := clitest.WriteFile(t, "sluice.conf", "rawr = off\n")
	found := runCheck(t, cli.ExitFailed, []string{"SLUICE_LOOPS=0"}, "--config", file)
	wantFinding(t, found, "fault "+file+`:1: unknown key "rawr": did you mean raw?`)
	wantFinding(t, found, "fault SLUICE_LOOPS=0: must be a whole number of at least 1, or auto")
	wantFinding(t, found, "unknown limits and ports: not checked, because the settings could not be read")

	found = runCheck(t, cli.ExitFailed, nil, append(freePorts, "--pong-timeout", "1ms", "--api-key-file", "/no/such/file", "--web-root", "/no/such/dir")...)
	wantFinding(t, found, "fault --pong-timeout 1ms is too short: timeouts are checked once a second; use at least 1s")
	wantFinding(t, found, "fault --api-key-file /no/such/file: no such file or directory; use a file with the key on one line")
	wantFinding(t, found, "fault --web-root /no/such/dir: no such file or directory; use a readable directory")
	wantFinding(t, found, "unknown limits: not checked, because the settings are invalid")
	wantFinding(t, found, "ok --listen 127.0.0.1:0: free") // ports are checked all the same
}

func TestCheckComparesConnectionsWithTheDescriptorLimit(t *testing.T) {
	found := runCheck(t, cli.ExitFailed, []string{"SLUICE_MAX_CONNECTIONS=2000000000"}, freePorts...)
	for _, line := range found {
		if strings.HasPrefix(line, "fault --max-connections 2000000000 needs more file descriptors than the limit of ") &&
			strings.HasSuffix(line, " (set by SLUICE_MAX_CONNECTIONS)") {
			return
		}
	}
	t.Errorf("no fault about descriptors in\n%s", strings.Join(found, "\n"))
}

func TestCheckTellsWhatTheGatewayWarnsOf(t *testing.T) {
	found := runCheck(t, 0, nil, append(freePorts, "--allowed-origins", "*")...)
	for _, line := range found {
		if strings.HasPrefix(line, "warning --allowed-origins: ") {
			return
		}
	}
	t.Errorf("no warning about origins in\n%s", strings.Join(found, "\n"))
}

func TestCheckWarnsOfSettingsThatUndoOthers(t *testing.T) {
	found := runCheck(t, 0, nil, append(freePorts, "--trusted-proxies", "10.0.0.0/8,::/0", "--proxy-protocol", "10.1.0.0/16",
		"--proxy-protocol", "0.0.0.0/0", "--slow-policy", "a=skip,*=skip,log=close", "--tls-listen", "off")...)
	var got []string
	for _, line := range found {
		if strings.HasPrefix(line, "warning --") {
			got = append(got, line)
		}
	}
	const all = " includes every address, so any client can claim any address: list only your proxies"
	const both = "; for a proxy in both, the PROXY header is used. List each proxy only once"
	if diff := cmp.Diff([]string{
		"warning --trusted-proxies ::/0" + all,
		"warning --trusted-proxies 10.0.0.0/8 overlaps --proxy-protocol 10.1.0.0/16" + both,
		"warning --proxy-protocol 0.0.0.0/0" + all,
		"warning --trusted-proxies 10.0.0.0/8 overlaps --proxy-protocol 0.0.0.0/0" + both,
		"warning --slow-policy: the rule for log is never used, because * before it matches every channel and the first match applies; put * last",
	}, got); diff != "" {
		t.Error(diff)
	}
}

func TestCheckTellsMaxBufferedOnce(t *testing.T) {
	found := runCheck(t, 0, nil, append(freePorts, "--memory-limit", "64MiB", "--max-buffered", "63MiB", "--max-connections", "100")...)
	wantFinding(t, found, "warning memory: --memory-limit 64MiB is enough for --max-buffered 32MiB (lowered from 63MiB) and 100 connections")
	if n := strings.Count(strings.Join(found, "\n"), "--max-buffered"); n != 1 {
		t.Errorf("%d lines on --max-buffered in\n%s", n, strings.Join(found, "\n"))
	}
}
