package poller

import (
	"errors"
	"fmt"
	"reflect"
	"sync"

	"github.com/mailru/easygo/netpoll"
	"golang.org/x/sys/unix"
)

// Poller waits for a set of descriptors and calls their handlers.
//
// The rejected alternatives were netpoll.Poller, whose Desc duplicates each
// descriptor and switches it to blocking mode, and an epoll loop of our own,
// which stays possible behind this type should easygo ever be in the way.
type Poller struct {
	// Set at construction.
	ep      *netpoll.Epoll
	onBatch func()
	onWake  func()
	onFail  func(error) // does something at its first call only
	gate    gate
}

// New starts a poller. onBatch runs on the loop each time it has waited, before the handlers and
// the wake function of that batch of events: it can read a clock for all of them. onWake runs on
// the loop after Wake. onFail is called at most once, from the loop's goroutine, if waiting fails;
// the process should then stop.
func New(onBatch, onWake func(), onFail func(error)) (*Poller, error) {
	p := &Poller{onBatch: onBatch, onWake: onWake, gate: gate{eventfd: -1, waker: -1}}
	// Once: easygo also reports that it could not close a descriptor that was the
	// reason for the failure.
	var once sync.Once
	p.onFail = func(err error) { once.Do(func() { onFail(err) }) }
	ep, err := netpoll.EpollCreate(&netpoll.EpollConfig{OnWaitError: p.onFail})
	if err != nil {
		return nil, fmt.Errorf("poller: create epoll: %w", err)
	}
	p.ep = ep
	if err := p.start(); err != nil {
		p.Close() // ignored: the error that matters is err
		return nil, err
	}
	return p, nil
}

func (p *Poller) start() error {
	// easygo creates its two descriptors without close-on-exec and does not
	// show them. Their numbers can be read by reflection, without unsafe; the
	// module's version is pinned, and a renamed field is an error here.
	own := [...]struct {
		name string
		fd   int
	}{{name: "fd"}, {name: "eventFd"}}
	for i, d := range own {
		f := reflect.ValueOf(p.ep).Elem().FieldByName(d.name)
		if !f.IsValid() || f.Kind() != reflect.Int {
			return fmt.Errorf("poller: netpoll.Epoll has no descriptor %q: not the pinned version of easygo", d.name)
		}
		own[i].fd = int(f.Int())
		unix.CloseOnExec(own[i].fd)
	}
	if err := p.gate.open(own[0].fd); err != nil {
		return err
	}
	err := p.ep.Add(p.gate.waker, netpoll.EPOLLIN|netpoll.EPOLLET, nil) // it only has to end the wait
	if err == nil {
		err = p.ep.Add(p.gate.eventfd, gateEvents, p.pass)
	}
	if err != nil {
		return fmt.Errorf("poller: watch eventfd: %w", err)
	}
	return nil
}

// pass is easygo's callback for the gate: once for each batch of events. The flag falls
// before onWake looks at anything, so a Wake that comes afterwards makes it run again.
func (p *Poller) pass(ev netpoll.EpollEvent) {
	if ev&netpoll.EPOLLIN == 0 {
		return // easygo's mark of closing (0x20): not an event
	}
	if p.gate.woken() {
		p.onWake()
		if p.gate.awake.Load() {
			p.gate.goOn()
		}
	}
	err := p.gate.park()
	p.onBatch()
	if err == nil {
		err = p.gate.arm()
	}
	if err != nil {
		p.onFail(fmt.Errorf("poller: gate: %w", err)) // the loop is deaf for wakes from now on
	}
}

// Wake makes the wake function run soon on the loop. It may be called from any
// goroutine, the loop's own included, and never blocks. It must not be called
// after Close.
func (p *Poller) Wake() { p.gate.wake() }

// Add registers fd, which must be open and non-blocking, and calls h when it is ready. On
// error nothing is registered and fd still belongs to the caller.
func (p *Poller) Add(d *Desc, fd int, interest Events, h Handler) error {
	if d.fd != 0 || d.handler != nil {
		panic("poller: Desc used twice")
	}
	d.fd, d.interest, d.handler = int32(fd), interest, h
	_, err := fault(CallAdd, fd, nil)
	if err == nil {
		err = p.ep.Add(fd, epollEvents(interest), d.ready)
	}
	if errors.Is(err, netpoll.ErrRegistered) {
		// A stale entry of a descriptor that was closed without Del, by a
		// caller's fault. Deleting it is right, and its failure (the old
		// descriptor is gone) is expected.
		p.ep.Del(fd)
		err = p.ep.Add(fd, epollEvents(interest), d.ready)
	}
	if _, err = made(err); err != nil {
		p.ep.Del(fd) // ignored: easygo keeps the callback of a failed Add, this drops it
		d.handler = nil
		return fmt.Errorf("poller: add: %w", err)
	}
	return nil
}

// Mod changes what d's owner waits for. Zero waits for nothing; Hangup is still
// reported.
func (p *Poller) Mod(d *Desc, interest Events) error {
	if d.handler == nil {
		return ErrDeleted
	}
	if d.interest == interest {
		return nil
	}
	_, err := fault(CallMod, int(d.fd), nil)
	if err == nil {
		err = p.ep.Mod(int(d.fd), epollEvents(interest))
	}
	if _, err = made(err); err != nil {
		return fmt.Errorf("poller: mod: %w", err)
	}
	d.interest = interest
	return nil
}

// Del removes the registration. The handler is not called again, whatever the kernel has
// already reported. Deleting twice returns ErrDeleted and does nothing.
func (p *Poller) Del(d *Desc) error {
	if d.handler == nil {
		return ErrDeleted
	}
	d.handler = nil
	d.interest = 0
	_, err := fault(CallDel, int(d.fd), nil)
	if err == nil {
		err = p.ep.Del(int(d.fd))
	}
	if _, err = made(err); err != nil {
		return fmt.Errorf("poller: del: %w", err)
	}
	return nil
}

// Close stops the loop, waits for its end and closes the poller's own descriptors. The
// descriptors that were added stay open. It must not be called from the loop, nor while
// another goroutine may call Wake. A second Close returns an error and does nothing.
func (p *Poller) Close() error {
	if err := p.ep.Close(); err != nil {
		return fmt.Errorf("poller: close: %w", err)
	}
	p.gate.close()
	return nil
}

// ready is easygo's callback. easygo looks callbacks up for a whole batch of
// events and then calls them, so one may come after Del: handler is nil then.
// And one may tell what an earlier callback of the batch has lost interest in:
// that is left out.
func (d *Desc) ready(ev netpoll.EpollEvent) {
	h := d.handler
	if h == nil {
		return
	}
	var e Events
	if ev&netpoll.EPOLLIN != 0 {
		e |= Readable
	}
	if ev&netpoll.EPOLLOUT != 0 {
		e |= Writable
	}
	if ev&(netpoll.EPOLLHUP|netpoll.EPOLLERR) != 0 {
		e |= Hangup
	}
	if ev&netpoll.EPOLLRDHUP != 0 {
		e |= PeerShut
	}
	e &= d.interest | Hangup
	if e != 0 { // zero also: easygo's mark of closing (0x20)
		h.Ready(e)
	}
}

func epollEvents(e Events) netpoll.EpollEvent {
	var ev netpoll.EpollEvent
	if e&Readable != 0 {
		ev |= netpoll.EPOLLIN
	}
	if e&Writable != 0 {
		ev |= netpoll.EPOLLOUT
	}
	if e&PeerShut != 0 {
		ev |= netpoll.EPOLLRDHUP
	}
	return ev
}
