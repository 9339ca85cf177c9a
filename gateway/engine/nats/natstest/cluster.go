package natstest

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/gateway/clienttest"

	natsserver "github.com/nats-io/nats-server/v2/server"
)

// Cluster is a cluster of servers in this process.
type Cluster struct {
	t       testing.TB
	Servers []*Server
	ways    map[[2]int]*way // between servers, if they can be cut: from one to another one
}

// routesOfPeer is how many connections a server has to each other one: a pool, and one for the system
// account.
const routesOfPeer = natsserver.DEFAULT_ROUTE_POOL_SIZE + 1

// StartCluster starts n servers that are one cluster, and waits until they are: with JetStream, until
// streams with replicas on all of them can be created.
func StartCluster(t testing.TB, n int, o Options) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	host := address()
	var routes []*url.URL
	for range n {
		s := newServer(t, o, host)
		s.opts.Cluster = natsserver.ClusterOpts{Name: "natstest", Host: host, Port: freePort(t, host)}
		routes = append(routes, &url.URL{Scheme: "nats", Host: net.JoinHostPort(host, strconv.Itoa(s.opts.Cluster.Port))})
		c.Servers = append(c.Servers, s)
	}
	for i, s := range c.Servers {
		s.opts.Routes = routes
		if o.Cuttable {
			s.opts.Routes = c.lay(i, routes)
			s.opts.Cluster.Advertise = net.JoinHostPort(host, "1") // others do not find another way
		}
		s.begin()
	}
	for _, s := range c.Servers {
		s.ready()
	}
	c.Settle()
	t.Cleanup(c.quiet)
	return c
}

// lay lays ways from a server to others, and returns their beginnings.
func (c *Cluster) lay(i int, to []*url.URL) (from []*url.URL) {
	if c.ways == nil {
		c.ways = make(map[[2]int]*way)
	}
	for j, u := range to {
		if j == i {
			continue
		}
		w := newWay(c.t, u.Host)
		c.ways[[2]int{i, j}] = w
		from = append(from, &url.URL{Scheme: u.Scheme, Host: w.listen.Addr().String()})
	}
	return from
}

// Cut cuts a server off from the others. Its clients stay connected to it. Rejoin ends that.
func (c *Cluster) Cut(i int)    { c.setWays(i, true) }
func (c *Cluster) Rejoin(i int) { c.setWays(i, false) }

func (c *Cluster) setWays(i int, cut bool) {
	for ends, w := range c.ways {
		if ends[0] == i || ends[1] == i {
			w.set(cut)
		}
	}
}

// quiet waits until no server makes or copies a stream: one that is shut down meanwhile leaves goroutines
// behind. It is no fault of a test if that does not come.
func (c *Cluster) quiet() {
	for end := time.Now().Add(patience); time.Now().Before(end) && c.copies(); time.Sleep(10 * time.Millisecond) {
	}
}

// copies reports whether a stream with replicas on all servers is not complete on one that runs.
func (c *Cluster) copies() bool {
	for _, s := range c.Servers {
		if !s.Running() || !s.opts.JetStream {
			continue
		}
		all, err := s.s.Jsz(&natsserver.JSzOptions{Accounts: true, Streams: true, Config: true})
		if err != nil {
			continue
		}
		for _, account := range all.AccountDetails {
			for _, stream := range account.Streams {
				if stream.Config.Replicas == len(c.Servers) && slices.ContainsFunc(c.Servers, func(s *Server) bool {
					return s.Running() && !s.s.JetStreamIsStreamCurrent(account.Name, stream.Name)
				}) {
					return true
				}
			}
		}
	}
	return false
}

// Settle waits until the servers that run know each other and, with JetStream, have a leader and are
// current.
func (c *Cluster) Settle() {
	c.t.Helper()
	running := slices.DeleteFunc(slices.Clone(c.Servers), func(s *Server) bool { return !s.Running() })
	clienttest.WaitFor(c.t, "the cluster's servers know each other", func() bool {
		return !slices.ContainsFunc(running, func(s *Server) bool { return s.s.NumRoutes() < routesOfPeer*(len(running)-1) })
	})
	if !c.Servers[0].opts.JetStream {
		return
	}
	clienttest.WaitFor(c.t, "the cluster has a JetStream leader, and every server is current", func() bool {
		leaders := 0
		for _, s := range running {
			if s.s.JetStreamIsLeader() {
				leaders++
				if len(s.s.JetStreamClusterPeers()) < len(running) {
					return false
				}
			}
			if !s.s.JetStreamIsCurrent() {
				return false
			}
		}
		return leaders == 1
	})
}

// URL returns the addresses of all servers, separated by commas.
func (c *Cluster) URL() string { return strings.Join(c.URLs(), ",") }

// URLs returns the addresses of all servers.
func (c *Cluster) URLs() (all []string) {
	for _, s := range c.Servers {
		all = append(all, s.URL())
	}
	return all
}

// Named returns the server of a name.
func (c *Cluster) Named(name string) *Server {
	c.t.Helper()
	for _, s := range c.Servers {
		if s.opts.ServerName == name {
			return s
		}
	}
	c.t.Fatalf("no server has the name %q", name)
	return nil
}

// Leader returns the server that leads a stream of the global account, once there is one.
func (c *Cluster) Leader(stream string) (leader *Server) {
	c.t.Helper()
	clienttest.WaitFor(c.t, fmt.Sprintf("stream %s has a leader", stream), func() bool {
		i := slices.IndexFunc(c.Servers, func(s *Server) bool {
			return s.Running() && s.s.JetStreamIsStreamLeader(natsserver.DEFAULT_GLOBAL_ACCOUNT, stream)
		})
		if i >= 0 {
			leader = c.Servers[i]
		}
		return i >= 0
	})
	return leader
}

// Current waits until every server that runs has all of a stream.
func (c *Cluster) Current(stream string) {
	c.t.Helper()
	clienttest.WaitFor(c.t, fmt.Sprintf("stream %s is current on all servers", stream), func() bool {
		return !slices.ContainsFunc(c.Servers, func(s *Server) bool {
			return s.Running() && !s.s.JetStreamIsStreamCurrent(natsserver.DEFAULT_GLOBAL_ACCOUNT, stream)
		})
	})
}
