package gateway

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"sluice/gateway/edge/handshake"
	"sluice/gateway/rate"
	"sluice/gateway/setting"
)

// A Fault describes one error in a Config, or one warning about it ([Server.Warnings]): what
// is wrong, why, and how to fix it.
type Fault = setting.Fault

// Faults is the list of all faults in a Config. Its Error method returns one line per fault.
type Faults = setting.Faults

// Validate returns nil, or all errors in the configuration as [Faults], each saying what is
// wrong, why, and how to fix it.
func (c Config) Validate() error {
	c = c.withDefaults()
	var v validation
	c.validateClients(&v)
	c.validateSizes(&v)
	c.validateHistory(&v)
	c.validateTimes(&v)
	c.validateLimits(&v)
	if v.faults == nil {
		return nil
	}
	return v.faults
}

// A validation collects faults.
type validation struct{ faults Faults }

// fault adds a fault. Values are printed; sizes are given as text.
func (v *validation) fault(field string, value any, why, fix string) {
	v.faults = append(v.faults, Fault{Field: field, Value: fmt.Sprint(value), Why: why, Fix: fix})
}

func (v *validation) atLeast(field string, got, least int) {
	if got < least {
		v.fault(field, got, "is too small", fmt.Sprintf("use at least %d", least))
	}
}

// seconds checks a time that is swept for: once a second, so nothing shorter can be kept.
func (v *validation) seconds(field string, d time.Duration) {
	if d > 0 && d < time.Second {
		v.fault(field, d, "is too short: timeouts are checked once a second", "use at least 1s")
	}
}

func (v *validation) positive(field string, d time.Duration) {
	if d < 0 {
		v.fault(field, d, "must be positive; otherwise a silent peer would stay connected forever", "")
	}
}

func (c *Config) validateClients(v *validation) {
	v.atLeast("Loops", c.Loops, 1)
	if c.Loops > 1024 {
		v.fault("Loops", c.Loops, "is too many", "one per core is enough")
	}
	if c.BatchWindow < 0 || c.BatchWindow > time.Second {
		v.fault("BatchWindow", c.BatchWindow, "is out of range", "use 0 to 1s")
	}
	for _, p := range c.WSPaths {
		if p == "/" {
			v.fault("WSPaths", p, "is already served: an upgrade there joins the channel lobby", "remove it")
		} else if !strings.HasPrefix(p, "/") || strings.ContainsAny(p, "?#% ") || len(p) > 255 {
			v.fault("WSPaths", fmt.Sprintf("%q", p), "must be a plain path such as /socket", "")
		}
	}
	for _, p := range c.Subprotocols {
		if !handshake.Token(p) {
			v.fault("Subprotocols", fmt.Sprintf("%q", p), "is not a token (RFC 6455 section 4.1)", "use names such as chat,v2.chat")
		}
	}
	if _, _, err := handshake.CompileOrigins(c.AllowedOrigins); err != nil {
		for _, err := range eachError(err) {
			v.fault("AllowedOrigins", "", ": "+setting.Literal(err.Error()), "")
		}
	}
}

// eachError returns the errors that were joined.
func eachError(err error) []error {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		return joined.Unwrap()
	}
	return []error{err}
}

func (c *Config) validateSizes(v *validation) {
	if c.MaxConnections < 0 {
		v.fault("MaxConnections", c.MaxConnections, "must not be negative", "omit it for as many as the file descriptor limit allows")
	}
	v.atLeast("MaxHandshakes", c.MaxHandshakes, 1)
	v.positive("HandshakeTimeout", c.HandshakeTimeout)
	message := bytesText(c.MaxMessage)
	if c.MaxMessage < 125 {
		v.fault("MaxMessage", message, "is too small", "use at least 125B, the size of a control frame")
	}
	if c.MaxMessage > 64<<20 {
		v.fault("MaxMessage", message, "is too large: messages are encoded in one piece", "use at most 64MiB")
	}
	v.atLeast("MaxFragments", c.MaxFragments, 1)
	v.atLeast("MaxChannels", c.MaxChannels, 1)
	if least := 2 * (c.MaxMessage + 1024); c.ChannelBuffer < least {
		v.fault("ChannelBuffer", bytesText(c.ChannelBuffer), "cannot hold two messages of {MaxMessage} "+message, "use at least "+bytesText(least))
	}
	if c.ChannelBuffer > 1<<30 {
		v.fault("ChannelBuffer", bytesText(c.ChannelBuffer), "is too large", "use at most 1GiB")
	}
	if least := c.MaxMessage + pendingReadMax + pendingSlack; c.MaxPending < least {
		v.fault("MaxPending", bytesText(c.MaxPending), "cannot hold the reply to a message of {MaxMessage} "+message, "use at least "+bytesText(least))
	}
	if least := 8 * c.ChannelBuffer; c.MaxBuffered < least {
		v.fault("MaxBuffered", bytesText(c.MaxBuffered), "cannot hold a few channels of {ChannelBuffer} "+bytesText(c.ChannelBuffer), "use at least "+bytesText(least))
	}
}

func (c *Config) validateHistory(v *validation) {
	if c.History > 1<<20 {
		v.fault("History", c.History, "is too large", "use at most 1048576")
	}
	v.seconds("HistoryTTL", c.HistoryTTL)
	v.positive("HistoryTTL", c.HistoryTTL)
	if c.HistoryBytes < 1<<10 {
		v.fault("HistoryBytes", bytesText(c.HistoryBytes), "is too small", "use at least 1KiB, or {History} off")
	}
	if len(c.Greeting) > c.MaxMessage {
		v.fault("Greeting", "", fmt.Sprintf("has %d bytes, more than {MaxMessage} %s", len(c.Greeting), bytesText(c.MaxMessage)), "use a shorter one")
	}
	if !utf8.ValidString(c.Greeting) {
		v.fault("Greeting", "", "must be UTF-8, because it is sent as text", "")
	}
	if c.NoPage && c.WebRoot != "" {
		v.fault("WebRoot", c.WebRoot, "has no effect with {NoPage}", "use only one of them")
	}
}

func (c *Config) validateTimes(v *validation) {
	v.seconds("PingInterval", c.PingInterval)
	v.seconds("PongTimeout", c.PongTimeout)
	v.positive("PongTimeout", c.PongTimeout)
	v.seconds("WriteTimeout", c.WriteTimeout)
	v.seconds("CloseTimeout", c.CloseTimeout)
	v.positive("CloseTimeout", c.CloseTimeout)
	if c.SendBuffer > 0 && c.SendBuffer < 4<<10 {
		v.fault("SendBuffer", bytesText(c.SendBuffer), "is too small for TCP to work well", "use at least 4KiB")
	}
}

func (c *Config) validateLimits(v *validation) {
	for _, r := range []struct {
		field string
		rate  int
	}{
		{"MessageRate", c.MessageRate}, {"ControlRate", c.ControlRate}, {"AddressRate", c.AddressRate},
		{"AcceptRate", c.AcceptRate}, {"ChannelRate", c.ChannelRate}, {"JoinRate", c.JoinRate},
	} {
		if r.rate > rate.Max {
			v.fault(r.field, r.rate, "is too large", fmt.Sprintf("use at most %d, or off", rate.Max))
		}
	}
	if c.AcceptRate < 0 || c.ChannelRate < 0 {
		v.fault("AcceptRate", c.AcceptRate, fmt.Sprintf("and {ChannelRate} %d must not be negative", c.ChannelRate), "omit the one that should have no limit")
	}
	if c.MemoryLimit > 0 && c.MemoryLimit < 32<<20 {
		v.fault("MemoryLimit", bytesText(int(c.MemoryLimit)), "is too small for the process itself", "use at least 32MiB")
	}
	for _, r := range c.SlowPolicy {
		if r.Pattern == "" {
			v.fault("SlowPolicy", "", "has an empty pattern", "use one such as prices.*=skip, or *=skip for all channels")
		}
	}
	if c.LoopTimeout > 0 && c.LoopTimeout <= unhealthyAfter*time.Second {
		v.fault("LoopTimeout", c.LoopTimeout, fmt.Sprintf("is too short: the process must run long enough to log a stuck loop's stack, which happens after %d s", unhealthyAfter),
			fmt.Sprintf("use at least %ds, or off", unhealthyAfter+1))
	}
	v.seconds("MessageTimeout", c.MessageTimeout)
	v.positive("MessageTimeout", c.MessageTimeout)
	if least := max(c.WriteTimeout, c.CloseTimeout); c.UserTimeout > 0 && c.UserTimeout <= least {
		v.fault("UserTimeout", c.UserTimeout, fmt.Sprintf("is too short: the kernel would end connections before {WriteTimeout} %v and {CloseTimeout} %v can send the reason",
			c.WriteTimeout, c.CloseTimeout), fmt.Sprintf("use more than %v", least))
	}
	if c.NotsentLowat > 0 && c.NotsentLowat < 2<<10 {
		v.fault("NotsentLowat", bytesText(c.NotsentLowat), "is too small for TCP to work well", "use at least 2KiB")
	}
}

// bytesText writes a size as flags take it, in the greatest unit that leaves a
// whole number.
func bytesText(n int) string {
	unit := 0
	for unit < 3 && n != 0 && n%1024 == 0 {
		n /= 1024
		unit++
	}
	return fmt.Sprint(n) + [...]string{"B", "KiB", "MiB", "GiB"}[unit]
}
