package interop

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// followerKind is a program that reads a channel and prints what it receives as it arrives.
type followerKind struct {
	name    string
	path    string // of its channel
	scheme  string
	command []string // the URL follows
	needs   []string // a command that fails where the program is missing
	sends   int      // messages that it publishes itself, of what saysHello has
}

// debianPython is the Python that Debian's packages are for.
const debianPython = "/usr/bin/python3"

// nodeStream reads an event stream by fetch, which decodes it.
const nodeStream = `
const response = await fetch(process.argv[1]);
if (response.headers.get("content-encoding") !== "gzip") throw new Error("no encoding was negotiated");
let text = "";
for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
  const lines = (text + chunk).split("\n");
  text = lines.pop();
  for (const line of lines) if (line.startsWith("data: ")) console.log(JSON.stringify(line.slice(6)));
}`

// nodeEventSource reads an event stream as browsers do, by the package eventsource or by what Node.js has itself.
const nodeEventSource = `
import { createRequire } from "node:module";
const require = createRequire(process.cwd() + "/../../gateway/web/suite/package.json");
const [kind, url] = process.argv.slice(1);
let options = {};
if (kind === "npm") {
  globalThis.EventSource = require("eventsource").EventSource;
  options.fetch = async (url, init) => {
    const response = await fetch(url, init);
    if (response.headers.get("content-encoding") !== "gzip") throw new Error("no encoding was negotiated");
    return response;
  };
}
new EventSource(url, options).onmessage = (event) => console.log(JSON.stringify(event.data));`

var followerKinds = []followerKind{
	{name: "Python websockets", path: "/ws/follow", scheme: "ws", command: []string{debianPython, "peer.py", "websockets"}, needs: []string{debianPython, "-c", "import websockets"}, sends: 2},
	{name: "Python zlib", path: "/ws/follow", scheme: "ws", command: []string{debianPython, "peer.py", "zlib"}, needs: []string{debianPython, "-c", ""}, sends: 2},
	{name: "Python zlib, SSE", path: "/sse/follow", scheme: "http", command: []string{debianPython, "peer.py", "gzip"}, needs: []string{debianPython, "-c", ""}},
	{name: "curl, SSE", path: "/sse/follow", scheme: "http", command: []string{"curl", "-sN", "--compressed"}, needs: []string{"curl", "--version"}},
	{name: "fetch of Node.js, SSE", path: "/sse/follow", scheme: "http", command: []string{"node", "--input-type=module", "-e", nodeStream}, needs: []string{"node", "--version"}},
	{name: "EventSource of Node.js", path: "/sse/follow", scheme: "http", command: []string{"node", "--no-warnings", "--experimental-eventsource", "--input-type=module", "-e", nodeEventSource, "node"}, needs: []string{"node", "--experimental-eventsource", "--version"}},
	{name: "npm eventsource", path: "/sse/follow", scheme: "http", command: []string{"node", "--input-type=module", "-e", nodeEventSource, "npm"}, needs: []string{"node", "--version"}},
}

var saysHello = strings.Repeat("hello ", 50)

// Programs that decompress with zlib receive every publication as soon as it is published.
func TestFollowersReceiveCompressedPublicationsAtOnce(t *testing.T) {
	g := startGateway(t, newCertificate(t), "--compression", "shared")
	messages := []string{"small", strings.Repeat(`{"temperature":20.5}`, 100), "grüße 你好", strings.Repeat("x", 60_000), fullText, "the last"}
	var heard []<-chan string
	var names []string
	sent := 0
	for _, k := range followerKinds {
		if err := exec.Command(k.needs[0], k.needs[1:]...).Run(); err != nil {
			t.Logf("%s: not tested: %v", k.name, err)
			continue
		}
		heard, names = append(heard, follow(t, k, g.URL(k.scheme, k.path))), append(names, k.name)
		g.until(t, len(heard), "sluice_subscriptions", "", "")
		for range k.sends { // it is the newest: all have it
			for i, lines := range heard {
				wantLine(t, names[i], lines, saysHello)
			}
			sent++
		}
	}
	for _, m := range messages {
		if err := g.publish("follow", message{payload: m}); err != nil {
			t.Fatal(err)
		}
		for i, lines := range heard {
			wantLine(t, names[i], lines, m)
		}
	}
	if got := g.until(t, sent, "sluice_messages_received_total", "", ""); got != sent {
		t.Errorf("%d messages were received from them, want %d", got, sent)
	}
	if metrics, err := g.Metrics(); err != nil || metrics.Sum("sluice_compressed_bytes_total", "state", "before") < 4*metrics.Sum("sluice_compressed_bytes_total", "state", "after") {
		t.Errorf("hardly anything was compressed: %v", err)
	}
}

// follow starts a follower, and returns what it receives.
func follow(t *testing.T, k followerKind, url string) <-chan string {
	t.Helper()
	cmd := exec.Command(k.command[0], append(k.command[1:], url)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 100)
	t.Cleanup(func() {
		cmd.Process.Kill() // ignored: it may have ended
		for range lines {
		}
		cmd.Wait() // ignored: it was killed
	})
	go func() {
		defer close(lines)
		in := bufio.NewReader(out)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			text := ""
			if data, ok := strings.CutPrefix(line, "data: "); ok { // of curl
				lines <- strings.TrimSuffix(data, "\n")
			} else if json.Unmarshal([]byte(line), &text) == nil {
				lines <- text
			}
		}
	}()
	return lines
}

func wantLine(t *testing.T, name string, lines <-chan string, want string) {
	t.Helper()
	select {
	case got := <-lines:
		if got != want {
			t.Fatalf("%s: received %.60q, want %.60q", name, got, want)
		}
	case <-time.After(patience):
		t.Fatalf("%s: nothing was received, want %.60q", name, want)
	}
}
