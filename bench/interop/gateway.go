package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// gateway is the process under test.
type gateway struct {
	process                 *exec.Cmd
	plain, secure, internal string // host and port
	trust                   *tls.Config
}

// maxMessage is the gateway's default --max-message.
const maxMessage = 64 << 10

// startGateway waits until the process says where it listens. The channel's buffer
// holds all that is published, so that no client is too slow for it on a busy
// machine; pings come every second, so that each client has to answer some.
func startGateway(ctx context.Context, binary string, cert *certificate) (*gateway, error) {
	g := &gateway{trust: cert.trust}
	g.process = exec.CommandContext(ctx, binary, "serve", "--log-format", "json",
		"--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0",
		"--tls-listen", "127.0.0.1:0", "--tls-cert", cert.certFile, "--tls-key", cert.keyFile,
		"--channel-buffer", "32MiB", "--ping-interval", "1s", "--pong-timeout", "3s")
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "SLUICE_") { // the runner's own would be refused
			g.process.Env = append(g.process.Env, v)
		}
	}
	stderr, err := g.process.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := g.process.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(stderr)
	var said []string
	for lines.Scan() {
		said = append(said, lines.Text())
		var ready struct {
			Msg       string   `json:"msg"`
			Listen    []string `json:"listen"`
			TLSListen []string `json:"tls_listen"`
			Internal  string   `json:"internal_listen"`
		}
		if json.Unmarshal(lines.Bytes(), &ready) != nil || ready.Msg != "ready" {
			continue
		}
		if len(ready.Listen) == 0 || len(ready.TLSListen) == 0 {
			g.kill()
			return nil, fmt.Errorf("%s does not say where it listens: %s", binary, lines.Text())
		}
		g.plain, g.internal, g.secure = ready.Listen[0], ready.Internal, ready.TLSListen[0]
		go func() { // ends with the process
			for lines.Scan() {
				if !strings.Contains(lines.Text(), `"level":"INFO"`) {
					fmt.Fprintf(os.Stderr, "%s\n", lines.Text())
				}
			}
		}()
		return g, nil
	}
	g.kill()
	return nil, fmt.Errorf("%s did not start:\n%s", binary, strings.Join(said, "\n"))
}

// url gives the address of a path for ws, http, wss or https.
func (g *gateway) url(scheme, path string) string {
	host := g.plain
	if strings.HasSuffix(scheme, "s") && scheme != "ws" {
		host = g.secure
	}
	return scheme + "://" + host + path
}

func (g *gateway) publish(ctx context.Context, channel string, m message) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+g.internal+"/publish/"+channel, strings.NewReader(m.payload))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "text/plain")
	if m.binary {
		r.Header.Set("Content-Type", "application/octet-stream")
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("publish: %s", answer.Status)
	}
	return nil
}

// counter gives the sum of a metric over the series whose labels contain label.
func (g *gateway) counter(ctx context.Context, name, label string) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.internal+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err
	}
	sum, found := 0, false
	for _, series := range regexp.MustCompile(`(?m)^`+name+`(\{.*\})? (\S+)$`).FindAllStringSubmatch(string(text), -1) {
		if !strings.Contains(series[1], label) {
			continue
		}
		v, err := strconv.ParseFloat(series[2], 64)
		if err != nil {
			return 0, fmt.Errorf("metric %s: %w", name, err)
		}
		sum, found = sum+int(v), true
	}
	if !found {
		return 0, fmt.Errorf("no metric %s with %s", name, label)
	}
	return sum, nil
}

// until waits until a counter is at least want, or there is no patience left, and
// gives what it is then.
func (g *gateway) until(ctx context.Context, name, label string, want int) (got int, err error) {
	end := time.Now().Add(patience)
	for {
		if got, err = g.counter(ctx, name, label); err != nil || got >= want || time.Now().After(end) {
			return got, err
		}
		time.Sleep(20 * time.Millisecond) // between two looks
	}
}

// stop tells the gateway to end. Its clients are told so.
func (g *gateway) stop() error {
	if err := g.process.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := g.process.Wait(); err != nil {
		return fmt.Errorf("the gateway exited with an error: %w", err)
	}
	return nil
}

// kill ends it on the way out; after stop it does nothing.
func (g *gateway) kill() {
	g.process.Process.Kill() // ignored: it may have ended
	g.process.Wait()
}
