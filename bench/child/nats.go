package child

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// NATS is a nats-server as a process of its own: alone, or one of a cluster. What it stores is there
// again when it is started again.
type NATS struct {
	*Process
	URL string // for its clients; Internal is its monitoring port
	Dir string // with what it has stored

	words  []string // its command
	health string   // URL of its answer to whether it is there and has all of its streams
}

// NATSOptions are the settings of nats-servers.
type NATSOptions struct {
	Binary  string   // such as BuildNATS builds
	Dir     string   // for their configuration and what they store
	Servers int      // of one cluster; 1: a server on its own
	Host    string   // where they are reached; loopback
	Inside  []string // a command that runs the command behind it in another network, in which they listen on all addresses
}

// BuildNATS builds the nats-server of the version that the module around the working directory uses.
func BuildNATS(ctx context.Context, binary string) error {
	return build(ctx, binary, "github.com/nats-io/nats-server/v2")
}

// natsTries is how often ports are drawn that others may take at the same moment.
const natsTries = 3

// StartNATS starts nats-servers with JetStream, and waits until they are one cluster that stores. If
// that fails, none is left.
func StartNATS(o NATSOptions) (all []*NATS, err error) {
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	for range natsTries {
		if all, err = o.start(); err == nil {
			return all, nil
		}
		for _, s := range all {
			s.Kill()
		}
		if err = fmt.Errorf("start nats-server: %w", err); !strings.Contains(err.Error(), "address already in use") {
			break
		}
	}
	return nil, err
}

func (o NATSOptions) start() (all []*NATS, err error) {
	on := o.Host
	if o.Inside != nil {
		on = "0.0.0.0"
	}
	ports, err := freePorts(on, 3*o.Servers)
	if err != nil {
		return nil, err
	}
	var routes []string
	for i := range o.Servers {
		routes = append(routes, "nats://"+net.JoinHostPort("127.0.0.1", ports[3*i+1]))
	}
	for i := range o.Servers {
		client, route, monitor := net.JoinHostPort(on, ports[3*i]), net.JoinHostPort("127.0.0.1", ports[3*i+1]), net.JoinHostPort(on, ports[3*i+2])
		dir := filepath.Join(o.Dir, fmt.Sprintf("nats-%d", i))
		text := fmt.Sprintf("server_name: nats-%d\nlisten: %q\nhttp: %q\njetstream { store_dir: %q, max_memory_store: 64MB, max_file_store: 20GB }\n", i, client, monitor, dir)
		if o.Servers > 1 {
			text += fmt.Sprintf("cluster { name: chaos, listen: %q, no_advertise: true, routes: [%s] }\n", route, strings.Join(routes, ", "))
		}
		config := dir + ".conf"
		if err = errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(config, []byte(text), 0o644)); err != nil {
			return all, err
		}
		s := &NATS{URL: "nats://" + net.JoinHostPort(o.Host, ports[3*i]), Dir: dir,
			words: slices.Concat(o.Inside, []string{o.Binary, "--config", config}), health: "http://" + net.JoinHostPort(o.Host, ports[3*i+2]) + "/healthz"}
		if s.Process, err = Start(exec.Command(s.words[0], s.words[1:]...)); err != nil {
			return all, err
		}
		s.Internal = monitor
		all = append(all, s)
	}
	for _, s := range all {
		if err = s.ready(readyWithin); err != nil {
			return all, err
		}
	}
	return all, nil
}

// freePorts returns ports that nobody listens on, below those that connections come from: a server
// that is started again finds its own still free.
func freePorts(host string, n int) (ports []string, err error) {
	for len(ports) < n {
		l, wrong := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(20_000+rand.IntN(12_000))))
		if wrong != nil {
			if err = wrong; !strings.Contains(err.Error(), "address already in use") {
				return nil, err
			}
			continue
		}
		defer l.Close() // error ignored: it is open; not before all are drawn
		_, port, _ := net.SplitHostPort(l.Addr().String())
		ports = append(ports, port)
	}
	return ports, nil
}

// Again starts a server that has ended again, with what it has stored. It does not wait for it: others
// may have to be started for it to become healthy.
func (s *NATS) Again() (err error) {
	<-s.Ended
	monitor := s.Internal
	if s.Process, err = Start(exec.Command(s.words[0], s.words[1:]...)); err == nil {
		s.Internal = monitor
	}
	return err
}

// Healthy reports whether the server is there, knows the leader of its cluster, and has all of the
// streams that it should have.
func (s *NATS) Healthy() bool {
	client := http.Client{Timeout: 2 * time.Second}
	defer client.CloseIdleConnections()
	resp, err := client.Get(s.health)
	if err != nil {
		return false
	}
	io.Copy(io.Discard, resp.Body) // error ignored: the status is all that matters
	resp.Body.Close()              // error ignored: as above
	return resp.StatusCode == http.StatusOK
}

// ready waits until the server is healthy.
func (s *NATS) ready(within time.Duration) error {
	for end := time.Now().Add(within); !s.Healthy(); {
		if s.HasEnded() {
			return fmt.Errorf("it has ended: %v; it wrote:\n%s", s.cmd.ProcessState, &s.Log)
		}
		if time.Now().After(end) {
			return fmt.Errorf("it is not healthy after %v; it wrote:\n%s", within, &s.Log)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

// URLs returns the addresses of servers for their clients, as the gateway's --nats-url has them.
func URLs(all []*NATS) string {
	var urls []string
	for _, s := range all {
		urls = append(urls, s.URL)
	}
	return strings.Join(urls, ",")
}
