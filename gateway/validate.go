package gateway

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"sluice/gateway/centrifugo"
	"sluice/gateway/edge/handshake"
	"sluice/gateway/engine/backing"
	"sluice/gateway/loop"
	"sluice/gateway/raw"
	"sluice/gateway/route"
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
	faults := setting.Bounds(&c)
	c.validateClients(&faults)
	c.validateSizes(&faults)
	c.validateHooks(&faults)
	c.validateEvents(&faults)
	backing.Validate(&c.Store, &faults)
	if len(faults) == 0 {
		return nil
	}
	return faults
}

// nameMax bounds a node's name: it is in every list of nodes, and is sent to the others. A host name fits.
const nameMax = 255

func (c *Config) validateClients(faults *Faults) {
	var aliases []string
	for _, p := range c.WSPaths {
		if p == "/" {
			faults.Add("WSPaths", p, "is already served: an upgrade there joins the channel lobby", "remove it")
		} else if !strings.HasPrefix(p, "/") || strings.ContainsAny(p, "?#%{ ") || len(p) > 255 {
			faults.Add("WSPaths", fmt.Sprintf("%q", p), "must be a plain path such as /socket", "")
		} else {
			aliases = append(aliases, p)
		}
	}
	for _, p := range route.Join(centrifugo.New(centrifugo.Config{}), raw.New(raw.Config{Paths: aliases})).Claims() {
		faults.Add("WSPaths", fmt.Sprintf("%q", p), "is served already: by another protocol, or as SSE", "use another path")
	}
	for _, p := range c.Subprotocols {
		if !handshake.Token(p) {
			faults.Add("Subprotocols", fmt.Sprintf("%q", p), "is not a token (RFC 6455 section 4.1)", "use names such as chat,v2.chat")
		}
	}
	if _, _, err := handshake.CompileOrigins(c.AllowedOrigins); err != nil {
		for _, err := range err.(interface{ Unwrap() []error }).Unwrap() { // one for each entry
			faults.Add("AllowedOrigins", "", ": "+setting.Literal(err.Error()), "")
		}
	}
	if !utf8.ValidString(c.Greeting) {
		faults.Add("Greeting", "", "must be UTF-8, because it is sent as text", "")
	}
	if len(c.Name) > nameMax || strings.ContainsFunc(c.Name, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }) {
		faults.Add("Name", fmt.Sprintf("%.*q", nameMax, c.Name), fmt.Sprintf("must be at most %d bytes of printable text", nameMax), "")
	}
	if c.NoPage && c.WebRoot != "" {
		faults.Add("WebRoot", c.WebRoot, "has no effect with {NoPage}", "use only one of them")
	}
	for _, r := range c.SlowPolicy {
		if r.Pattern == "" {
			faults.Add("SlowPolicy", "", "has an empty pattern", "use one such as prices.*=skip, or *=skip for all channels")
		}
	}
}

// validateSizes checks settings that bound each other.
func (c *Config) validateSizes(faults *Faults) {
	size := setting.FormatSize
	message := size(c.MaxMessage)
	if least := 2 * (c.MaxMessage + 1024); c.ChannelBuffer < least {
		faults.Add("ChannelBuffer", size(c.ChannelBuffer), "cannot hold two messages of {MaxMessage} "+message, "use at least "+size(least))
	}
	if least := c.MaxMessage + loop.PendingReadMax + loop.PendingSlack; c.MaxPending < least {
		faults.Add("MaxPending", size(c.MaxPending), "cannot hold the reply to a message of {MaxMessage} "+message, "use at least "+size(least))
	}
	if least := 8 * c.ChannelBuffer; c.MaxBuffered < least {
		faults.Add("MaxBuffered", size(c.MaxBuffered), "cannot hold a few channels of {ChannelBuffer} "+size(c.ChannelBuffer), "use at least "+size(least))
	}
	if len(c.Greeting) > c.MaxMessage {
		faults.Add("Greeting", "", fmt.Sprintf("has %d bytes, more than {MaxMessage} %s", len(c.Greeting), message), "use a shorter one")
	}
	if least := max(c.WriteTimeout, c.CloseTimeout); c.UserTimeout > 0 && c.UserTimeout <= least {
		faults.Add("UserTimeout", c.UserTimeout, fmt.Sprintf("is too short: the kernel would end connections before {WriteTimeout} %v and {CloseTimeout} %v can send the reason",
			c.WriteTimeout, c.CloseTimeout), fmt.Sprintf("use more than %v", least))
	}
}
