package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"sluice/cmd/internal/cli"
	"sluice/gateway"
)

// Endpoint is a parsed address from --listen, --tls-listen or --internal-listen.
type Endpoint struct {
	Flag    string // for errors
	Text    string // as it was given
	Network string // "tcp" or "unix"
	Address string // resolved, so that the address that was checked is the one used
	local   bool   // only this machine can connect
	tls     bool
}

// ParseEndpoint parses HOST:PORT or unix:/path.
func ParseEndpoint(flag, text string) (Endpoint, error) {
	e := Endpoint{Flag: flag, Text: text, Network: "tcp"}
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		if path == "" {
			return e, cli.OptionUsage(flag, " %s: missing path; use one such as unix:/run/sluice.sock", text)
		}
		e.Network, e.Address, e.local = "unix", path, true
		return e, nil
	}
	_, port, err := net.SplitHostPort(text)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil || port == "" {
		return e, cli.OptionUsage(flag, " %s: not an address; use HOST:PORT, such as 127.0.0.1:8000 or :8000, or unix:/path", text)
	}
	resolved, err := net.ResolveTCPAddr("tcp", text)
	if err != nil {
		return e, cli.OptionError(flag, " %s: cannot resolve the host; use an address of this machine", text)
	}
	e.Address, e.local = resolved.String(), resolved.IP.IsLoopback()
	return e, nil
}

// same reports whether two endpoints cannot be open at the same time. Port 0 is a
// different port each time.
func (e Endpoint) same(other Endpoint) bool {
	return e.Network == other.Network && e.Address == other.Address && !strings.HasSuffix(e.Address, ":0")
}

// Listen opens the endpoint's listener.
func (e Endpoint) Listen(sendBuffer int) (net.Listener, error) {
	if e.Network == "unix" {
		if err := e.clearSocket(); err != nil {
			return nil, err
		}
	}
	// Listening does not wait, so there is nothing to cancel.
	l, err := gateway.Listen(context.Background(), e.Network, e.Address, sendBuffer)
	if err == nil {
		return l, nil
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, e.inUse()
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, cli.OptionError(e.Flag, " %s: not an address of this machine; 'ip address' lists its addresses", e.Text)
	case errors.Is(err, fs.ErrPermission) && e.Network == "tcp":
		return nil, cli.OptionError(e.Flag, " %s: permission denied, because ports below 1024 need CAP_NET_BIND_SERVICE; grant it, or use a higher port", e.Text)
	case e.Network == "unix":
		return nil, cli.OptionError(e.Flag, " %s: cannot create the socket: %w; use a path in an existing directory that sluice can write to", e.Text, cli.BareNetError(err))
	}
	return nil, cli.OptionError(e.Flag, " %s: cannot listen: %w", e.Text, cli.BareError(err))
}

func (e Endpoint) inUse() error {
	if e.Network == "unix" {
		return cli.OptionError(e.Flag, " %s: the socket is in use by another process; stop that process, or use another path", e.Text)
	}
	return cli.OptionError(e.Flag, " %s: address already in use; stop the process that 'ss -ltnp' shows there, or use another port", e.Text)
}

// clearSocket removes the socket file of a process that ended without removing it.
func (e Endpoint) clearSocket() error {
	stale, err := e.StaleSocket()
	if err != nil || !stale {
		return err
	}
	if err := os.Remove(e.Address); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return cli.OptionError(e.Flag, " %s: cannot remove the stale socket file: %w", e.Text, cli.BareError(err))
	}
	return nil
}

// StaleSocket reports whether the path is a socket file that no process listens on.
// Anything else at the path is an error.
func (e Endpoint) StaleSocket() (bool, error) {
	info, err := os.Lstat(e.Address)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, cli.OptionError(e.Flag, " %s: cannot access the path: %w; use one that sluice can access", e.Text, cli.BareError(err))
	case info.Mode().Type() != fs.ModeSocket:
		return false, cli.OptionError(e.Flag, " %s: the path exists and is not a socket; remove it, or use another path", e.Text)
	}
	c, err := net.DialTimeout("unix", e.Address, time.Second)
	if err == nil {
		c.Close()
		return false, e.inUse()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return false, e.inUse() // full, or no permission to connect: a process may be listening
	}
	return true, nil
}

// clickable returns the URL of a listener for a user on this machine, or the path of a
// Unix socket.
func clickable(scheme string, addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return "unix:" + addr.String()
	}
	host := tcp.String()
	if tcp.IP.IsUnspecified() {
		host = fmt.Sprintf("localhost:%d", tcp.Port)
	}
	return (&url.URL{Scheme: scheme, Host: host, Path: "/"}).String()
}
