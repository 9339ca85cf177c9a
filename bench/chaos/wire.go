package chaos

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gobwas/ws"
)

// dial connects to a channel with format=json. The reader begins with what came
// with the answer.
func dial(ctx context.Context, url string, receiveBuffer int, p *pace) (net.Conn, *bufio.Reader, error) {
	d := ws.Dialer{Timeout: 30 * time.Second, TLSConfig: &tls.Config{InsecureSkipVerify: true}, NetDial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		n := net.Dialer{}
		if receiveBuffer > 0 { // before connecting: the window is agreed on there
			n.Control = func(_, _ string, c syscall.RawConn) (err error) {
				outer := c.Control(func(fd uintptr) {
					err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, receiveBuffer)
				})
				return errors.Join(outer, err)
			}
		}
		return n.DialContext(ctx, network, addr)
	}}
	conn, first, _, err := d.Dial(ctx, url)
	if err != nil {
		return nil, nil, err
	}
	source := io.Reader(&pacedReader{ctx, conn, p})
	if first != nil {
		lead, _ := first.Peek(first.Buffered()) // as much is there
		source = io.MultiReader(bytes.NewReader(bytes.Clone(lead)), source)
		ws.PutReader(first)
	}
	return conn, bufio.NewReaderSize(source, 16<<10), nil
}

// pace is how fast a client reads. It is set from any goroutine.
type pace struct{ now atomic.Pointer[paceState] }

type paceState struct {
	rate    int // bytes a second; 0: as they come; negative: none
	changed chan struct{}
}

func (p *pace) set(rate int) {
	if old := p.now.Swap(&paceState{rate, make(chan struct{})}); old != nil {
		close(old.changed)
	}
}

// pacedReader reads from a socket as fast as the client may.
type pacedReader struct {
	ctx  context.Context
	conn net.Conn
	pace *pace
}

// A trickling client reads every 100 ms, or in pieces of 4 KiB where that is more often.
const (
	paceStep  = 100 * time.Millisecond
	paceBytes = 4 << 10
)

func (r *pacedReader) Read(p []byte) (int, error) {
	for {
		s := r.pace.now.Load()
		switch {
		case s.rate == 0:
			return r.conn.Read(p)
		case s.rate > 0:
			step := min(paceStep, paceBytes*time.Second/time.Duration(s.rate))
			select {
			case <-time.After(step):
			case <-s.changed:
				continue
			case <-r.ctx.Done():
				return 0, r.ctx.Err()
			}
			return r.conn.Read(p[:min(len(p), max(int(float64(s.rate)*step.Seconds()), 1))])
		}
		select {
		case <-s.changed:
		case <-r.ctx.Done():
			return 0, r.ctx.Err()
		}
	}
}

// record is a record of format=json.
type record struct {
	gap, place bool
	epoch      string
	offset     uint64
	payload    []byte // of a publication; valid until the next read
}

// recordReader takes records apart. They come by the million and are alike up to the
// offset, so a publication that begins as the last one did is not decoded again.
type recordReader struct {
	lead  []byte // of a publication, up to its offset
	epoch string // the one in it
}

var (
	offsetKey = []byte(`,"offset":`)
	dataKey   = []byte(`,"data":"`)
)

func (d *recordReader) read(p []byte) (record, error) {
	if rest, ok := bytes.CutPrefix(p, d.lead); ok && len(d.lead) > 0 {
		r := record{epoch: d.epoch}
		i := 0
		for ; i < len(rest) && i < 19 && '0' <= rest[i] && rest[i] <= '9'; i++ {
			r.offset = 10*r.offset + uint64(rest[i]-'0')
		}
		if _, data, found := bytes.Cut(rest[i:], dataKey); found && i > 0 {
			if data, whole := bytes.CutSuffix(data, []byte(`"}`)); whole && bytes.IndexByte(data, '\\') < 0 && bytes.IndexByte(data, '"') < 0 {
				r.payload = data
				return r, nil
			}
		}
	}
	var j struct {
		Gap    *bool   `json:"gap"`
		Epoch  string  `json:"epoch"`
		Offset *uint64 `json:"offset"`
		Data   *string `json:"data"`
	}
	if err := json.Unmarshal(p, &j); err != nil || j.Offset == nil {
		return record{}, garbled{fmt.Sprintf("not a record of format=json: %.200q", p)}
	}
	r := record{epoch: j.Epoch, offset: *j.Offset}
	switch {
	case j.Gap != nil:
		r.gap, r.place = *j.Gap, !*j.Gap
	case j.Data == nil:
		return record{}, garbled{fmt.Sprintf("a message without text, which was not published: %.200q", p)}
	default:
		r.payload = []byte(*j.Data)
		if i := bytes.Index(p, offsetKey); i >= 0 {
			d.lead, d.epoch = bytes.Clone(p[:i+len(offsetKey)]), j.Epoch
		}
	}
	return r, nil
}
