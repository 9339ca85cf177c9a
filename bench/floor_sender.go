package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"time"

	"github.com/gobwas/ws"

	"sluice/bench/sys"
	"sluice/poller"
)

// FloorSender is the sending process of [Floor]. It carries out the orders that it reads
// from r as lines of JSON and answers each on w, until r ends.
func FloorSender(r io.Reader, w io.Writer) error {
	// The one that sends stays on its thread; what the runtime does beside it
	// (no garbage is made) is not in its way.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var (
		f       floorSender
		orders  = json.NewDecoder(r)
		answers = json.NewEncoder(w)
	)
	defer f.close()
	for {
		var o order
		if err := orders.Decode(&o); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		before, err := sys.CPU(0)
		begin := time.Now()
		var a answer
		if err == nil {
			a, err = f.obey(o)
		}
		after, _ := sys.CPU(0) // ignored: it worked before
		a.Took = time.Since(begin)
		a.CPU = after - before
		if o.Do == "cpu" {
			a.CPU = after
		}
		if err != nil {
			a.Err = err.Error()
		}
		if err := answers.Encode(a); err != nil {
			return err
		}
	}
}

// floorSender is the sender's state.
type floorSender struct {
	listener net.Listener
	fds      []int
}

func (f *floorSender) close() {
	if f.listener != nil {
		f.listener.Close() // ignored: the process ends
	}
	for _, fd := range f.fds {
		poller.Close(fd) // ignored: the same
	}
}

func (f *floorSender) obey(o order) (a answer, err error) {
	switch o.Do {
	case "listen":
		if _, err := poller.DescriptorLimit(); err != nil {
			return a, err
		}
		if f.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return a, err
		}
		a.Addr = f.listener.Addr().String()
	case "accept":
		for range o.N {
			c, err := f.listener.Accept()
			if err != nil {
				return a, err
			}
			fd, err := poller.Detach(c)
			if err != nil {
				return a, err
			}
			f.fds = append(f.fds, fd)
		}
		runtime.GC() // what accepting left behind is not the sends' cost
	case "idle":
		sys.Sleep(time.Duration(o.Seconds * float64(time.Second)))
	case "send":
		a.Rounds, err = f.send(o)
	case "serve":
		a.Addr, err = serveBare()
	case "cpu":
	default:
		err = fmt.Errorf("unknown order %q", o.Do)
	}
	return a, err
}

// send does the rounds. Nothing but the send happens for each delivery.
func (f *floorSender) send(o order) (rounds int, err error) {
	frame := make([]byte, o.Size, o.Size+ws.MaxHeaderSize)
	for i := range frame {
		frame[i] = '.'
	}
	frame, err = ws.CompileFrame(ws.NewTextFrame(frame))
	if err != nil {
		return 0, err
	}
	payload := frame[len(frame)-o.Size:]
	begin := time.Now()
	for ; rounds < o.N; rounds++ {
		if o.Rate > 0 {
			due := time.Duration(float64(rounds) / o.Rate * float64(time.Second))
			for left := due - time.Since(begin); left > 0; left = due - time.Since(begin) {
				sys.Sleep(left)
			}
		}
		stamp{seq: uint32(rounds), scheduled: 0}.put(payload, mark(o.Mark))
		for i, fd := range f.fds {
			n, err := poller.Write(fd, frame)
			if err != nil || n != len(frame) {
				return rounds, errors.Join(err, fmt.Errorf("socket %d accepted %d of %d bytes in round %d: the receiver fell behind, lower --burst or --rate",
					i, n, len(frame), rounds))
			}
		}
	}
	return rounds, nil
}

// fixedAnswer is a 101 whose accept key is right for nobody.
const fixedAnswer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n"

// serveBare answers upgrades on a thread of its own, for as long as the process
// lives: four system calls for each.
func serveBare() (addr string, err error) {
	listener, bound, err := sys.Listen()
	if err != nil {
		return "", err
	}
	go func() {
		runtime.LockOSThread()
		request, reply := make([]byte, 4096), []byte(fixedAnswer)
		for {
			fd, err := listener.Accept()
			if err != nil {
				return // the client sees it: it is refused
			}
			if n, err := sys.Read(fd, request); err == nil && n > 0 {
				poller.Write(fd, reply) // ignored: the client sees it
			}
			poller.Close(fd) // ignored: a descriptor that was accepted is open
		}
	}()
	return bound.String(), nil
}
