package chaos

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Gateway is a gateway that a row has started, as a process of its own.
type Gateway struct {
	Addr     string // HOST:PORT of the public listener
	Secure   string // HOST:PORT of the one with TLS; empty without
	Internal string // HOST:PORT of the internal one

	run  *Run
	name string
	cmd  *exec.Cmd
	log  string // path
	done chan struct{}
	err  error // of the process's end; read after done
	http *http.Client
}

// startWithin bounds the start of a gateway.
const startWithin = 10 * time.Second

// Launch says how a gateway is started.
type Launch struct {
	Listen string   // HOST:PORT; a free port of loopback when empty
	By     []string // a command that runs the command after its arguments; none when empty
}

// Start starts a gateway on free loopback ports, with additional flags.
func (r *Run) Start(flags ...string) (*Gateway, error) { return r.StartBy(Launch{}, flags...) }

// StartBy is Start with a Launch.
func (r *Run) StartBy(l Launch, flags ...string) (*Gateway, error) {
	if l.Listen == "" {
		l.Listen = "127.0.0.1:0"
	}
	g := &Gateway{run: r, name: fmt.Sprintf("gateway-%d", len(r.gateways)), done: make(chan struct{}), http: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: time.Minute, // longer than a gateway is stopped for
	}}
	g.log = filepath.Join(r.Dir, g.name+".log")
	file, err := os.Create(g.log)
	if err != nil {
		return nil, fmt.Errorf("create the gateway's log: %w", err)
	}
	defer file.Close() // ignored: the gateway has its own descriptor
	words := slices.Concat(l.By, []string{r.Bin, "serve", "--listen", l.Listen, "--internal-listen", "127.0.0.1:0", "--log-format", "json"}, flags)
	g.cmd = exec.Command(words[0], words[1:]...)
	g.cmd.Stdout, g.cmd.Stderr = file, file
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "SLUICE_") { // else this program's settings would be the gateway's
			g.cmd.Env = append(g.cmd.Env, v)
		}
	}
	if err := g.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the gateway: %w (is --bin right?)", err)
	}
	r.gateways = append(r.gateways, g)
	go func() {
		defer close(g.done)
		g.err = g.cmd.Wait()
	}()
	if !r.Await(startWithin, func() bool { return g.ready() || g.Ended() }) || g.Ended() {
		text, _ := os.ReadFile(g.log) // ignored: then there is nothing to quote
		return nil, fmt.Errorf("the gateway did not start: %.500s", text)
	}
	r.Say("%s has pid %d, flags %q", g.name, g.PID(), flags)
	return g, nil
}

// ready looks into the log for where the gateway listens.
func (g *Gateway) ready() bool {
	text, err := os.ReadFile(g.log)
	if err != nil {
		return false
	}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		var line struct {
			Msg      string   `json:"msg"`
			Listen   []string `json:"listen"`
			Secure   []string `json:"tls_listen"`
			Internal string   `json:"internal_listen"`
		}
		if json.Unmarshal(s.Bytes(), &line) == nil && line.Msg == "ready" && len(line.Listen) > 0 {
			g.Addr, g.Internal, g.Secure = line.Listen[0], line.Internal, strings.Join(line.Secure, ",")
			return true
		}
	}
	return false
}

// Knows reports whether `serve` has a flag.
func (r *Run) Knows(flag string) bool {
	out, err := exec.CommandContext(r.ctx, r.Bin, "serve", "--help").Output()
	return err == nil && bytes.Contains(out, []byte("  "+flag+" "))
}

// PID returns the process ID.
func (g *Gateway) PID() int { return g.cmd.Process.Pid }

// Ended reports whether the process has ended.
func (g *Gateway) Ended() bool {
	select {
	case <-g.done:
		return true
	default:
		return false
	}
}

// Signal sends the process a signal.
func (g *Gateway) Signal(s syscall.Signal) error { return g.cmd.Process.Signal(s) }

// Stop kills the process, if it is still running.
func (g *Gateway) Stop() {
	g.cmd.Process.Kill() // ignored: it has ended
	<-g.done
	g.http.CloseIdleConnections()
}

// get fetches a page of the internal listener.
func (g *Gateway) get(path string) ([]byte, error) {
	resp, err := g.http.Get("http://" + g.Internal + path)
	if err != nil {
		return nil, fmt.Errorf("ask the gateway: %w", err)
	}
	defer resp.Body.Close() // ignored: only an unread rest could fail
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %.200s", path, resp.Status, body)
	}
	return body, err
}

// Counters returns the gateway's metrics, without the prefix sluice_: for each name the sum
// over its labels, and as name{value} the metric of each label value.
func (g *Gateway) Counters() (map[string]float64, error) {
	text, err := g.get("/metrics")
	if err != nil {
		return nil, err
	}
	return parseMetrics(text), nil
}

func parseMetrics(text []byte) map[string]float64 {
	counters := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		line, ours := strings.CutPrefix(strings.TrimSpace(line), "sluice_")
		name, value, found := strings.Cut(line, " ")
		v, err := strconv.ParseFloat(value, 64)
		if !ours || !found || err != nil {
			continue
		}
		name, labels, _ := strings.Cut(name, "{")
		counters[name] += v
		for label := range strings.SplitSeq(strings.TrimSuffix(labels, "}"), ",") {
			key, quoted, _ := strings.Cut(label, "=")
			if word, err := strconv.Unquote(quoted); err == nil && key != "loop" {
				counters[name+"{"+word+"}"] += v
			}
		}
	}
	return counters
}

// Memory returns VmRSS and its peak so far (VmHWM), in bytes.
func (g *Gateway) Memory() (now, peak float64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.PID()))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		n, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		switch {
		case err != nil:
		case key == "VmRSS":
			now = n * 1024
		case key == "VmHWM":
			peak = n * 1024
		}
	}
	if now == 0 {
		return 0, 0, errors.New("the gateway has exited")
	}
	return now, peak, nil
}

// hasEnded waits a moment for the end of a process that does not answer.
func (g *Gateway) hasEnded() bool {
	select {
	case <-g.done:
		return true
	case <-time.After(time.Second):
		return false
	}
}

// dump leaves the gateway's goroutines and metrics beside its log.
func (g *Gateway) dump() {
	if g.Ended() {
		g.run.Say("%s has ended: %v", g.name, g.err)
		return
	}
	g.Signal(syscall.SIGCONT) // ignored: it is not stopped, or has ended
	for name, path := range map[string]string{"goroutines.txt": "/debug/pprof/goroutine?debug=2", "metrics.txt": "/metrics"} {
		body, err := g.get(path)
		if err == nil {
			err = os.WriteFile(filepath.Join(g.run.Dir, g.name+"-"+name), body, 0o644)
		}
		if err != nil && g.hasEnded() {
			g.run.Say("%s has ended: %v", g.name, g.err)
			return
		}
		if err != nil {
			g.run.Say("%s: no %s: %v", g.name, name, err)
		}
	}
}
