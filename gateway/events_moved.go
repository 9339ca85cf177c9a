package gateway

import (
	"encoding/binary"
	"encoding/json"
	"time"

	"sluice/gateway/event"
	"sluice/gateway/loop"
	"sluice/gateway/saved"
	"sluice/gateway/takeover"
)

// Events in a hot upgrade. In the freeze the old process ends its attempts to send something, and writes down what waits, with its
// numbers, and which channels are occupied. The new one goes on with that: a receiver sees one gateway. Clients that move
// raise no event. Those that cannot, such as those with TLS, are disconnected for the receivers; their channels are vacated only if they do
// not come back.

// eventsVersion is the version of what save writes.
const eventsVersion = 1

// comeBack is for how long, beyond the time in which they are told to, clients may come back before their channels are vacated.
const comeBack = 2 * time.Second

// part returns the events' part of a takeover. retire is for how long clients are told to come back.
func (e *events) part(retire time.Duration) takeover.Part {
	return takeover.Part{
		Name: "events", Load: e.load, Thawed: e.resume, Given: e.moved,
		Save: func(dst []byte) []byte { return e.save(dst, retire) },
	}
}

// leaver is an edge of a client that does not move.
type leaver struct {
	Type      event.Type
	Client    string `json:",omitempty"`
	User      string `json:",omitempty"`
	Transport string `json:",omitempty"`
	Channel   string `json:",omitempty"`
	Code      uint32 `json:",omitempty"`
	Reason    string `json:",omitempty"`
}

// save appends what waits, of loops that are frozen.
func (e *events) save(dst []byte, retire time.Duration) []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.receivers) == 0 {
		return dst // nobody misses anything
	}
	var together []byte
	if e.cluster != nil {
		together = e.cluster.Save()
	}
	e.notifier.Pause()
	e.paused = true
	var leavers []leaver
	stay := e.server.set.Staying(observer{e.notifier}.Wants, func(x *loop.Edge) {
		leavers = append(leavers, leaver{edgeTypes[x.Kind], string(x.Client), x.User, x.Transport, x.Channel, x.Code, x.Text})
	})
	wait := time.Duration(0)
	if stay {
		wait = retire + comeBack
	}
	text, err := json.Marshal(leavers)
	if err != nil {
		panic(err) // texts and numbers
	}
	dst = binary.AppendUvarint(append(dst, eventsVersion), uint64(wait))
	return saved.AppendPart(saved.AppendBytes(saved.AppendBytes(dst, text), together), e.notifier.Save)
}

// resume goes on after save: there is no upgrade.
func (e *events) resume() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.paused {
		e.paused = false
		e.notifier.Resume()
		if e.cluster != nil {
			e.cluster.Resume()
		}
	}
}

// moved ends everything: another process has it.
func (e *events) moved() {
	e.end()
	e.mu.Lock()
	n, receivers := e.notifier, e.receivers
	e.mu.Unlock()
	if n == nil {
		return
	}
	n.Close(canceled) // ignored: what it has not sent the other process sends
	for _, r := range receivers {
		r.close()
	}
}

// load takes what another process has saved.
func (e *events) load(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	r := saved.Read("events", b, eventsVersion)
	wait := time.Duration(min(r.Uint(), uint64(time.Hour)))
	text, together, rest := r.View(), r.View(), r.View()
	if err := r.End(); err != nil {
		return err
	}
	var leavers []leaver
	if err := json.Unmarshal(text, &leavers); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.notifier == nil {
		e.server.cfg.Logger.Warn("events of the process before are not sent: there are no webhooks any more")
		return nil
	}
	if err := e.notifier.Load(rest); err != nil {
		return err
	}
	if e.cluster != nil && len(together) > 0 {
		if err := e.cluster.Load(together); err != nil {
			return err
		}
	}
	e.notifier.Hold()
	e.add()
	for _, x := range leavers {
		e.notifier.Emit(event.Event{Type: x.Type, Client: x.Client, User: x.User, Transport: x.Transport, Channel: x.Channel, Code: x.Code, Reason: x.Reason})
	}
	e.settle = func() {
		time.AfterFunc(wait, func() {
			e.notifier.Settle()
			if e.cluster != nil { // channels whose clients have not come
				e.cluster.Again()
			}
		})
	}
	return nil
}

// serve is called when the server serves after a takeover, or instead of one.
func (e *events) serve() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.notifier == nil {
		return
	}
	e.add()
	e.tick()
	if e.settle != nil {
		e.settle()
	}
}
