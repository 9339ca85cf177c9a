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

// endpoint is a parsed address from --listen, --tls-listen or --internal-listen.
type endpoint struct {
	flag    string // for errors
	text    string // as it was given
	network string // "tcp" or "unix"
	address string // resolved, so that the address that was checked is the one used
	local   bool   // only this machine can connect
	tls     bool
}

// parseEndpoint parses HOST:PORT or unix:/path.
func parseEndpoint(flag, text string) (endpoint, error) {
	e := endpoint{flag: flag, text: text, network: "tcp"}
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		if path == "" {
			return e, optionUsage(flag, " %s: missing path; use one such as unix:/run/sluice.sock", text)
		}
		e.network, e.address, e.local = "unix", path, true
		return e, nil
	}
	_, port, err := net.SplitHostPort(text)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil || port == "" {
		return e, optionUsage(flag, " %s: not an address; use HOST:PORT, such as 127.0.0.1:8000 or :8000, or unix:/path", text)
	}
	resolved, err := net.ResolveTCPAddr("tcp", text)
	if err != nil {
		return e, optionError(flag, " %s: cannot resolve the host; use an address of this machine", text)
	}
	e.address, e.local = resolved.String(), resolved.IP.IsLoopback()
	return e, nil
}

// same reports whether two endpoints cannot be open at the same time. Port 0 is a
// different port each time.
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
	// Listening does not wait, so there is nothing to cancel.
	l, err := gateway.Listen(context.Background(), e.network, e.address, sendBuffer)
	if err == nil {
		return l, nil
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, e.inUse()
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, optionError(e.flag, " %s: not an address of this machine; 'ip address' lists its addresses", e.text)
	case errors.Is(err, fs.ErrPermission) && e.network == "tcp":
		return nil, optionError(e.flag, " %s: permission denied, because ports below 1024 need CAP_NET_BIND_SERVICE; grant it, or use a higher port", e.text)
	case e.network == "unix":
		return nil, optionError(e.flag, " %s: cannot create the socket: %w; use a path in an existing directory that sluice can write to", e.text, bareNetError(err))
	}
	return nil, optionError(e.flag, " %s: cannot listen: %w", e.text, bareError(err))
}

func (e endpoint) inUse() error {
	if e.network == "unix" {
		return optionError(e.flag, " %s: the socket is in use by another process; stop that process, or use another path", e.text)
	}
	return optionError(e.flag, " %s: address already in use; stop the process that 'ss -ltnp' shows there, or use another port", e.text)
}

// clearSocket removes the socket file of a process that ended without removing it.
func (e endpoint) clearSocket() error {
	stale, err := e.staleSocket()
	if err != nil || !stale {
		return err
	}
	if err := os.Remove(e.address); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return optionError(e.flag, " %s: cannot remove the stale socket file: %w", e.text, bareError(err))
	}
	return nil
}

// staleSocket reports whether the path is a socket file that no process listens on.
// Anything else at the path is an error.
func (e endpoint) staleSocket() (bool, error) {
	info, err := os.Lstat(e.address)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, optionError(e.flag, " %s: cannot access the path: %w; use one that sluice can access", e.text, bareError(err))
	case info.Mode().Type() != fs.ModeSocket:
		return false, optionError(e.flag, " %s: the path exists and is not a socket; remove it, or use another path", e.text)
	}
	c, err := net.DialTimeout("unix", e.address, time.Second)
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
