package main

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

	"sluice/gateway"
)

// endpoint is where a listener is to be: an address that --listen, --tls-listen or
// --internal-listen gave, taken apart.
type endpoint struct {
	flag    string // for errors
	text    string // as it was given
	network string // "tcp" or "unix"
	address string // resolved, so that what was judged is what is listened on
	local   bool   // only this machine can connect
	tls     bool
}

// parseEndpoint takes apart HOST:PORT or unix:/path.
func parseEndpoint(flag, text string) (endpoint, error) {
	e := endpoint{flag: flag, text: text, network: "tcp"}
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		if path == "" {
			return e, usagef("--%s %s: no path: give one, such as unix:/run/sluice.sock", flag, text)
		}
		e.network, e.address, e.local = "unix", path, true
		return e, nil
	}
	_, port, err := net.SplitHostPort(text)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil || port == "" {
		return e, usagef("--%s %s: not an address: give HOST:PORT such as 127.0.0.1:8000 or :8000, or unix:/path", flag, text)
	}
	resolved, err := net.ResolveTCPAddr("tcp", text)
	if err != nil {
		return e, fmt.Errorf("--%s %s: the host has no address here: give an address of this machine", flag, text)
	}
	e.address, e.local = resolved.String(), resolved.IP.IsLoopback()
	return e, nil
}

// same reports whether two endpoints cannot be open at a time. Port 0 is another
// port each time.
func (e endpoint) same(other endpoint) bool {
	return e.network == other.network && e.address == other.address && !strings.HasSuffix(e.address, ":0")
}

// listen opens the endpoint's listener.
func (e endpoint) listen(sendBuffer int) (net.Listener, error) {
	if e.network == "unix" {
		if err := e.clearSocket(); err != nil {
			return nil, err
		}
	}
	// Listening does not wait for anything, so there is nothing to cancel.
	l, err := gateway.Listen(context.Background(), e.network, e.address, sendBuffer)
	if err == nil {
		return l, nil
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, e.inUse()
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("--%s %s: not an address of this machine: see 'ip address' for those it has", e.flag, e.text)
	case errors.Is(err, fs.ErrPermission) && e.network == "tcp":
		return nil, fmt.Errorf("--%s %s: permission denied: ports below 1024 need CAP_NET_BIND_SERVICE, give a higher one", e.flag, e.text)
	case e.network == "unix":
		return nil, fmt.Errorf("--%s %s: cannot make the socket: %w: give a path in a directory that is there and that sluice may write to", e.flag, e.text, bareNetError(err))
	}
	return nil, fmt.Errorf("--%s %s: cannot listen: %w", e.flag, e.text, bareError(err))
}

func (e endpoint) inUse() error {
	if e.network == "unix" {
		return fmt.Errorf("--%s %s: the socket is in use by another process: stop it or give another path", e.flag, e.text)
	}
	return fmt.Errorf("--%s %s: the address is in use: stop the process that 'ss -ltnp' shows there or give another port", e.flag, e.text)
}

// clearSocket removes the socket file of a process that ended without doing it.
func (e endpoint) clearSocket() error {
	stale, err := e.staleSocket()
	if err != nil || !stale {
		return err
	}
	if err := os.Remove(e.address); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--%s %s: cannot remove the socket nobody listens on: %w", e.flag, e.text, bareError(err))
	}
	return nil
}

// staleSocket tells whether a socket file is in the way that nobody listens on.
// Anything else in the way is an error.
func (e endpoint) staleSocket() (bool, error) {
	info, err := os.Lstat(e.address)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("--%s %s: cannot look at the path: %w: give one that sluice may use", e.flag, e.text, bareError(err))
	case info.Mode().Type() != fs.ModeSocket:
		return false, fmt.Errorf("--%s %s: the path exists and is no socket: remove it or give another path", e.flag, e.text)
	}
	c, err := net.DialTimeout("unix", e.address, time.Second)
	if err == nil {
		c.Close()
		return false, e.inUse()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return false, e.inUse() // full, or not ours to ask: somebody may well be there
	}
	return true, nil
}

// clickable gives the URL of a listener for a person on this machine, or the
// path of a Unix socket.
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
