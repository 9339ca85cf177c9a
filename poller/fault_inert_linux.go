//go:build faults

package poller

import "github.com/mailru/easygo/netpoll"

// NewInert returns a poller that waits for nothing. All its calls have to be made by a Fault.
func NewInert() *Poller { return &Poller{ep: new(netpoll.Epoll)} }

// Woken reports whether Wake was called since the last Woken of an inert poller.
func (p *Poller) Woken() bool { return p.gate.woken() }
