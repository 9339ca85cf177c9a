package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/spf13/cobra"

	"sluice/bench/child"
)

// Server is a NATS server of a figure's, as a process that can be killed and started again on the
// same ports and with the same data.
type Server struct {
	run     *Run
	args    []string
	port    int
	monitor int
	process *child.Process
	log     string // of processes before this one
}

// NATS starts so many servers, of one cluster if there are several, with JetStream.
func (r *Run) NATS(n int) []*Server {
	if r.Plain {
		return nil
	}
	ports := freePorts(3 * n)
	var routes []string
	for i := range n {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", ports[3*i+2]))
	}
	var servers []*Server
	for i := range n {
		s := &Server{run: r, port: ports[3*i], monitor: ports[3*i+1]}
		s.args = []string{"-a", "127.0.0.1", "-p", fmt.Sprint(s.port), "-m", fmt.Sprint(s.monitor), "-js", "-sd", r.subdir("nats"), "-n", fmt.Sprintf("server%d", i)}
		if n > 1 {
			s.args = append(s.args, "--cluster_name", "bench", "--cluster", routes[i], "--routes", strings.Join(routes, ","))
		}
		r.servers = append(r.servers, s)
		servers = append(servers, s)
		s.Start()
	}
	for _, s := range servers {
		s.AwaitReady()
	}
	return servers
}

// urls returns the addresses of servers, as --nats-url takes them.
func urls(servers []*Server) string {
	var all []string
	for _, s := range servers {
		all = append(all, fmt.Sprintf("nats://127.0.0.1:%d", s.port))
	}
	return strings.Join(all, ",")
}

// Start starts the server's process.
func (s *Server) Start() {
	words := append([]string{s.run.NATSBin}, s.args...)
	if s.run.NATSBin == "" {
		words = append([]string{must(os.Executable()), "nats-server"}, s.args...)
	}
	s.process = must(child.Start(exec.Command(words[0], words[1:]...)))
	s.run.Say("NATS server on port %d has pid %d", s.port, s.process.PID())
}

// AwaitReady waits until the server accepts clients and its JetStream works.
func (s *Server) AwaitReady() {
	s.run.Await("a NATS server that is ready", time.Minute, func() bool {
		if s.process.HasEnded() {
			noError(fmt.Errorf("the NATS server has ended:\n%s", s.process.Log.String()))
		}
		return s.greets() && s.healthy()
	})
}

// greets reports whether the server sends a client its first line.
func (s *Server) greets() bool {
	c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", s.port), time.Second)
	if err != nil {
		return false
	}
	defer c.Close()                                  // ignored: nothing is to be saved
	c.SetReadDeadline(time.Now().Add(time.Second))   // ignored: it does not fail on a new connection
	line, err := bufio.NewReader(c).ReadString('\n') // an error is that it is not ready
	return err == nil && strings.HasPrefix(line, "INFO ")
}

func (s *Server) healthy() bool {
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/healthz", s.monitor))
	if err != nil {
		return false
	}
	defer resp.Body.Close() // ignored: only an unread rest could fail
	return resp.StatusCode == http.StatusOK
}

// Subscriptions returns the number of subscriptions of all of the server's clients.
func (s *Server) Subscriptions() int {
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/subsz", s.monitor))
	if err != nil {
		return 0 // it is not up
	}
	defer resp.Body.Close() // ignored: only an unread rest could fail
	var subs struct {
		Total int `json:"num_subscriptions"`
	}
	json.NewDecoder(resp.Body).Decode(&subs) // ignored: then there are none
	return subs.Total
}

// Kill kills the server's process.
func (s *Server) Kill() {
	if s.process == nil {
		return
	}
	s.process.Kill()
	s.log += s.process.Log.String()
	s.process = nil
	http.DefaultClient.CloseIdleConnections()
}

// freePorts returns ports of loopback that nobody listens on.
func freePorts(n int) (ports []int) {
	for range n {
		l := must(net.Listen("tcp", "127.0.0.1:0"))
		defer l.Close() // all are held until all are known
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// newServerCommand returns the command of the processes that Start starts: nats-server with its own
// flags.
func newServerCommand() *cobra.Command {
	return &cobra.Command{
		Use: "nats-server", Hidden: true, DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error { return serveNATS(args) },
	}
}

// serveNATS is nats-server's main.
func serveNATS(args []string) error {
	flags := flag.NewFlagSet("nats-server", flag.ContinueOnError)
	o, err := server.ConfigureOptions(flags, args, func() {}, func() {}, func() {})
	if err != nil {
		return err
	}
	s, err := server.NewServer(o)
	if err != nil {
		return err
	}
	s.ConfigureLogger()
	if err := server.Run(s); err != nil {
		return err
	}
	s.WaitForShutdown()
	return nil
}
