package nats

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"time"

	"sluice/gateway/setting"

	natsgo "github.com/nats-io/nats.go"
)

// ServerReport is what an operator wants to know of one NATS server before gateways use it.
type ServerReport struct {
	URL string // without a password
	Err error  // it cannot be used at all, perhaps a setting.Error; the rest is empty

	Name, Version string
	Advice        string // what is known against the version, "" for nothing
	TooOld        string // the oldest version that works, if this one is older
	Cluster       string // name, "" if it is in none
	Servers       int    // servers of its cluster, as far as they are named or it advertises them; at least 1
	MaxPayload    int64
	NeedPayload   int64 // for Config.MaxMessage
	JetStream     error // nil: it is on, for this account
	MaxStore      int64 // what the account may store; below 1 for any amount

	ClockKnown bool
	Clock      time.Duration // how far the server's clock is ahead of ours,
	ClockError time.Duration // give or take
}

// InspectServers asks each of the servers. It creates nothing there.
func InspectServers(ctx context.Context, o Servers, maxMessage int) []ServerReport {
	reports := make([]ServerReport, len(o.URLs))
	done := make(chan struct{})
	for i, url := range o.URLs {
		go func() {
			reports[i] = inspectServer(ctx, url, o, maxMessage)
			done <- struct{}{}
		}()
	}
	for range o.URLs {
		<-done
	}
	// Servers may advertise none of the others (no_advertise).
	clusters := make(map[string]map[string]bool)
	for _, r := range reports {
		if r.Err == nil && r.Cluster != "" {
			if clusters[r.Cluster] == nil {
				clusters[r.Cluster] = make(map[string]bool)
			}
			clusters[r.Cluster][r.Name] = true
		}
	}
	for i := range reports {
		reports[i].Servers = max(reports[i].Servers, len(clusters[reports[i].Cluster]))
	}
	return reports
}

func inspectServer(ctx context.Context, url string, o Servers, maxMessage int) ServerReport {
	r := ServerReport{URL: redacted(url)}
	options, err := serverOptions(o, nil)
	if err != nil {
		r.Err = err
		return r
	}
	closed, dial := make(chan struct{}), &dialer{Dialer: net.Dialer{Timeout: dialTimeout}}
	options = append(options, natsgo.Name("sluice check"), natsgo.SetCustomDialer(dial), natsgo.RetryOnFailedConnect(false), natsgo.NoReconnect(),
		natsgo.ClosedHandler(func(*natsgo.Conn) { close(closed) }))
	nc, err := natsgo.Connect(url, options...)
	if err != nil {
		if errors.Is(err, natsgo.ErrNoServers) && dial.err != nil {
			err = dial.err
			if op := (*net.OpError)(nil); errors.As(err, &op) {
				err = op.Err // the address is known
			}
		}
		r.Err = setting.Error(explained(err))
		return r
	}
	defer func() {
		nc.Close()
		<-closed
	}()
	r.Name, r.Version, r.Cluster = nc.ConnectedServerName(), nc.ConnectedServerVersion(), nc.ConnectedClusterName()
	r.MaxPayload, r.NeedPayload = nc.MaxPayload(), int64(maxMessage+payloadOverhead)
	if v, ok := parseVersion(r.Version); ok {
		r.Advice = advice(v, r.Cluster != "")
		if v.less(versionLeast) {
			r.TooOld = versionLeast.String()
		}
	}
	r.jetStream(ctx, nc)
	r.clock(ctx, nc)
	r.Servers = max(1, len(nc.Servers())) // it has told of the others by now
	return r
}

// dialer remembers why it could not connect, which nats.go does not return.
type dialer struct {
	net.Dialer
	err error
}

func (d *dialer) Dial(network, address string) (c net.Conn, err error) {
	c, d.err = d.Dialer.Dial(network, address)
	return c, d.err
}

// jetStream asks whether this account has JetStream.
func (r *ServerReport) jetStream(ctx context.Context, nc *natsgo.Conn) {
	var answer struct {
		Error  *apiError
		Limits struct {
			Store int64 `json:"max_storage"`
		}
	}
	err := ask(ctx, nc, "$JS.API.INFO", &answer)
	switch {
	case errors.Is(err, natsgo.ErrNoResponders):
		r.JetStream = errors.New("no server answers for JetStream: it is off, or has no leader")
	case err != nil:
		r.JetStream = errors.New(reason(err))
	case answer.Error != nil:
		r.JetStream = answer.Error
	}
	r.MaxStore = answer.Limits.Store
}

// clock compares the clocks. The server says what time it has when it is asked about the user; some
// old ones do not.
func (r *ServerReport) clock(ctx context.Context, nc *natsgo.Conn) {
	for range 3 { // the answer that came fastest is the most precise
		var answer struct {
			Server struct{ Time time.Time }
		}
		began := time.Now()
		err := ask(ctx, nc, "$SYS.REQ.USER.INFO", &answer)
		took := time.Since(began)
		if err != nil || answer.Server.Time.IsZero() {
			return
		}
		if !r.ClockKnown || took/2 < r.ClockError {
			r.ClockKnown, r.ClockError = true, took/2
			r.Clock = answer.Server.Time.Sub(began.Add(took / 2))
		}
	}
}

func ask(ctx context.Context, nc *natsgo.Conn, subject string, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, subject, nil)
	if err != nil {
		return err
	}
	return json.Unmarshal(m.Data, answer)
}
