package serve

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"sluice/cmd/internal/cli"
)

// Socket activation: a service manager has opened the sockets, and passes them on (sd_listen_fds(3)). So no
// client is refused while the service restarts. A socket serves the endpoint that its name says, which is that of a
// flag, or the one that has its address.

// firstActivated is the first descriptor that is passed on.
const firstActivated = 3

// activatedMark ends the names of such listeners for the process that takes over. Their files are the service
// manager's.
const activatedMark = " (activated)"

// activated is a socket that a service manager has opened.
type activated struct {
	net.Listener
	name string // "" for none
	used bool
}

// activatedSockets returns the sockets that the environment names, if they are for this process.
func activatedSockets(env []string) (all []activated, err error) {
	if pid := cli.LookUpEnv(env, "LISTEN_PID"); pid != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	n, err := strconv.Atoi(cli.LookUpEnv(env, "LISTEN_FDS"))
	if err != nil || n < 0 || n > 1000 {
		return nil, errors.New("LISTEN_FDS is not a number of sockets")
	}
	names := strings.Split(cli.LookUpEnv(env, "LISTEN_FDNAMES"), ":")
	for i := range n {
		syscall.CloseOnExec(firstActivated + i)
		f := os.NewFile(uintptr(firstActivated+i), "LISTEN_FDS")
		l, err := net.FileListener(f)
		f.Close() // ignored: the listener has a duplicate
		if err != nil {
			return all, fmt.Errorf("LISTEN_FDS: socket %d does not listen: %w", i, cli.BareNetError(err))
		}
		a := activated{Listener: l}
		if i < len(names) {
			a.name = names[i]
		}
		all = append(all, a)
	}
	return all, nil
}

// take returns the socket for an endpoint, nil if there is none.
func (s *service) take(e *Endpoint) net.Listener {
	for _, serves := range []func(*activated) bool{
		func(a *activated) bool { return a.name == e.Flag },
		func(a *activated) bool { return !flagNames[a.name] && e.has(a.Addr()) },
	} {
		for i := range s.activated {
			if a := &s.activated[i]; !a.used && serves(a) {
				a.used = true
				return a.Listener
			}
		}
	}
	return nil
}

// flagNames are the names that say what a socket serves.
var flagNames = map[string]bool{"listen": true, "tls-listen": true, "internal-listen": true}

// has reports whether a listener at an address is the endpoint's.
func (e *Endpoint) has(a net.Addr) bool {
	if a.Network() != "tcp" || e.Network != "tcp" {
		return a.Network() == e.Network && a.String() == e.Address
	}
	host, port, err := net.SplitHostPort(e.Address)
	at, ok := a.(*net.TCPAddr)
	if err != nil || !ok || port != strconv.Itoa(at.Port) {
		return false
	}
	ip := net.ParseIP(host)
	return at.IP.Equal(ip) || at.IP.IsUnspecified() && (ip == nil || ip.IsUnspecified())
}

// unused returns what is wrong with sockets that serve no endpoint.
func (s *service) unused() error {
	for i := range s.activated {
		if a := &s.activated[i]; !a.used {
			return fmt.Errorf("LISTEN_FDS: the socket %s (%s) is no address of --listen, --tls-listen or --internal-listen; add it there, or name it with FileDescriptorName=", a.Addr(), a.name)
		}
	}
	return nil
}
