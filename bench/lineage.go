package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"sluice/bench/child"
	"sluice/bench/sys"
)

// lineage is a gateway that is replaced by new processes of it. All of them write to one pipe, whose end
// is that of the last one.
type lineage struct {
	public, secure, internal string // HOST:PORT

	log    child.Log
	pid    int // of the process that serves
	ended  chan struct{}
	client *http.Client
}

const (
	lineageReady = time.Minute // until the first process is ready
	lineageEnd   = time.Minute // from SIGINT to the last one's end
	upgradeMost  = time.Minute // until an upgrade is answered
)

// startLineage starts a gateway with these flags.
func startLineage(ctx context.Context, program string, flags []string) (*lineage, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, child.Arguments(flags...)...)
	cmd.Env = child.Environ()
	cmd.Stdout, cmd.Stderr = in, in // a file: it is open as long as a process of the lineage has it
	err = cmd.Start()
	in.Close() // ignored: the processes have their own
	if err != nil {
		out.Close() // ignored: nothing was read
		return nil, fmt.Errorf("start the gateway: %w", err)
	}
	l := &lineage{pid: cmd.Process.Pid, ended: make(chan struct{}), client: &http.Client{Timeout: upgradeMost, Transport: &http.Transport{DisableKeepAlives: true}}}
	go cmd.Wait() // ignored: how it ends is in the log
	go func() {
		io.Copy(&l.log, out) // ignored: it ends with the last process
		out.Close()          // ignored: it was read
		close(l.ended)
	}()
	ctx, cancel := context.WithTimeout(ctx, lineageReady)
	defer cancel()
	go func() {
		select {
		case <-l.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	var ready struct {
		Listen   []string `json:"listen"`
		Secure   []string `json:"tls_listen"`
		Internal string   `json:"internal_listen"`
	}
	if err := l.log.Wait(ctx, "ready", &ready); err != nil {
		l.stop()
		return nil, fmt.Errorf("the gateway did not start: %w", err)
	}
	l.internal = ready.Internal
	for _, one := range []struct {
		to  *string
		all []string
	}{{&l.public, ready.Listen}, {&l.secure, ready.Secure}} {
		if len(one.all) > 0 {
			*one.to = one.all[0]
		}
	}
	return l, nil
}

// stop ends the process that serves, and waits until all of the lineage have ended.
func (l *lineage) stop() {
	p, err := os.FindProcess(l.pid)
	if err != nil {
		return
	}
	p.Signal(os.Interrupt) // ignored: it has ended
	select {
	case <-l.ended:
	case <-time.After(lineageEnd):
		p.Kill() // ignored: likewise
	}
}

// post posts JSON to the internal listener and decodes the response.
func (l *lineage) post(ctx context.Context, path, body string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+l.internal+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := l.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() // ignored: only an unread rest could fail
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("POST %s: %s: %.500s", path, resp.Status, text)
	}
	return json.Unmarshal(text, v)
}

// handedOver is what the gateway says of an upgrade, and what was seen of the processes meanwhile.
type handedOver struct {
	PID     int           `json:"pid"`
	Moved   int           `json:"moved"`
	Secure  int           `json:"secure"`
	Records int64         `json:"records"`
	Copied  int64         `json:"copied"`
	Frozen  time.Duration `json:"frozen_ns"`
	Took    time.Duration `json:"took_ns"`

	cpu    time.Duration // of the old process from the request to its end, and of the new one until the answer
	before int64         // memory of the old process before
	peak   int64         // of both together, at most
}

// upgrade replaces the process that serves, and waits until the old one has ended.
func (l *lineage) upgrade(ctx context.Context) (handedOver, error) {
	watched := l.watch(l.pid)
	var r handedOver
	err := l.post(ctx, "/api/upgrade", "", &r)
	if err != nil {
		watched.stop()
		return r, fmt.Errorf("the upgrade failed: %w", err)
	}
	cpu, _ := sys.CPU(r.PID) // ignored: it has just answered, else the next upgrade fails
	watched.wait(ctx)
	l.pid, r.cpu, r.before, r.peak = r.PID, cpu+watched.cpu, watched.before, watched.peak
	return r, nil
}

// watching is a look at a process and its child, again and again.
type watching struct {
	old         int
	begin       time.Duration // the old one's CPU time at the beginning
	cpu         time.Duration // it has used since
	before      int64         // memory
	peak        int64
	both        atomic.Int64 // looks at both processes
	stopped     chan struct{}
	gone, ended chan struct{}
}

const (
	watchEvery = 2 * time.Millisecond
	watchMost  = 30 * time.Second // that an old process needs to end
)

// watch looks at a process until it has ended.
func (l *lineage) watch(old int) *watching {
	w := &watching{old: old, stopped: make(chan struct{}), gone: make(chan struct{}), ended: make(chan struct{})}
	w.begin, _ = sys.CPU(old)          // ignored: then there is no figure
	w.before, _ = processes{old}.rss() // ignored: likewise
	beginning := startOfArguments(old) // a child that has another one has executed its program
	go func() {
		defer close(w.ended)
		next := 0
		for {
			rss, err := processes{old}.rss()
			if err != nil {
				close(w.gone)
				return
			}
			if cpu, err := sys.CPU(old); err == nil {
				w.cpu = cpu - w.begin
			}
			if next == 0 {
				next = childOf(old, beginning)
			}
			if next > 0 {
				more, _ := processes{next}.rss() // ignored: it has failed
				w.peak = max(w.peak, rss+more)
				w.both.Add(1)
			}
			select {
			case <-w.stopped:
				return
			default:
				sys.Sleep(watchEvery)
			}
		}
	}()
	return w
}

func (w *watching) stop() {
	close(w.stopped)
	<-w.ended
}

// wait waits until the old process has ended.
func (w *watching) wait(ctx context.Context) {
	bound := time.NewTimer(watchMost)
	defer bound.Stop()
	select {
	case <-w.gone:
	case <-bound.C:
	case <-ctx.Done():
	}
	w.stop()
}

// childOf returns a child of a process that has executed another program than the process's own has been, 0 if there is none.
// Before that, the memory of both is one.
func childOf(pid int, beginning string) int {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // ignored: the pattern is valid
	for _, file := range files {
		text, _ := os.ReadFile(file) // ignored: a thread that has ended
		for word := range strings.FieldsSeq(string(text)) {
			n, _ := strconv.Atoi(word) // ignored: the kernel writes numbers
			if at := startOfArguments(n); at != "" && at != beginning {
				return n
			}
		}
	}
	return 0
}

// startOfArguments returns where a process's arguments lie in its memory (arg_start in proc(5)): each execve draws it anew.
func startOfArguments(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // ignored: it has ended
	_, rest, _ := strings.Cut(string(text), ") ")
	const field = 48 - 3 // the first behind the name is the third
	if fields := strings.Fields(rest); len(fields) > field {
		return fields[field]
	}
	return ""
}
