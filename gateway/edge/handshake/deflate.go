package handshake

import (
	"bytes"
	"strings"

	"github.com/gobwas/httphead"
)

// Permessage-deflate (RFC 7692) is agreed to on one condition: neither side keeps its context from one message to
// the next. A publication is then compressed once for all, and a connection needs no window. The server may demand
// that of clients that do not offer it (section 7.1.1), which most do not. So the answer is always the same.

const extensionDeflate = "permessage-deflate"

// The parameters of the extension.
const (
	serverContext = "server_no_context_takeover"
	clientContext = "client_no_context_takeover"
	serverWindow  = "server_max_window_bits"
	clientWindow  = "client_max_window_bits"
)

// windowBits is the size of the window that messages are compressed with, as an offer names it. A smaller one is not
// agreed to: what is shared was not compressed for it.
const windowBits = "15"

// The answers to an offer, without and with the size of the window.
var (
	deflateAnswer       = deflateOption()
	deflateWindowAnswer = deflateOption(serverWindow, windowBits)
)

func deflateOption(more ...string) httphead.Option {
	o := httphead.Option{Name: []byte(extensionDeflate)}
	o.Parameters.Set([]byte(serverContext), nil)
	o.Parameters.Set([]byte(clientContext), nil)
	if more != nil {
		o.Parameters.Set([]byte(more[0]), []byte(more[1]))
	}
	return o
}

// negotiation is that of one upgrade.
type negotiation struct {
	agreed bool
}

// negotiate answers the offers of an upgrade, one after the other: the first that can be met is agreed to.
func (n *negotiation) negotiate(offer httphead.Option) (answer httphead.Option, _ error) {
	if n.agreed || string(offer.Name) != extensionDeflate {
		return httphead.Option{}, nil
	}
	var seen []string
	window, ok := false, true
	offer.Parameters.ForEach(func(name, value []byte) bool {
		for _, s := range seen {
			ok = ok && s != string(name)
		}
		seen = append(seen, string(name))
		switch string(name) {
		case serverContext, clientContext:
			ok = ok && len(value) == 0
		case clientWindow:
			ok = ok && (len(value) == 0 || isWindowBits(string(value)))
		case serverWindow:
			window = true
			ok = ok && string(value) == windowBits
		default:
			ok = false
		}
		return ok
	})
	if !ok {
		return httphead.Option{}, nil
	}
	n.agreed = true
	if window {
		return deflateWindowAnswer, nil
	}
	return deflateAnswer, nil
}

// isWindowBits reports whether a value is 8 to 15, as the RFC writes it.
func isWindowBits(s string) bool {
	return len(s) == 1 && (s[0] == '8' || s[0] == '9') || len(s) == 2 && s[0] == '1' && '0' <= s[1] && s[1] <= '5'
}

// keepsContext reports whether a request is from a browser that keeps its context although it has agreed not to:
// Safari 15.0 to 15.3, and every browser of iOS 15.0 to 15.3, all of which use its network code.
func keepsContext(head []byte) bool {
	for line := range bytes.Lines(head) {
		name, value, _ := bytes.Cut(line, colon)
		if !equalFold(string(name), "user-agent") {
			continue
		}
		agent := string(value)
		safari := strings.Contains(agent, "Safari/") && !strings.Contains(agent, "Chrome/") && namesBroken(agent, "Version/15.")
		if safari || strings.Contains(agent, "like Mac OS X") && namesBroken(agent, "OS 15_") {
			return true
		}
	}
	return false
}

// namesBroken reports whether a version of 15.0 to 15.3 follows its beginning.
func namesBroken(agent, version string) bool {
	_, minor, ok := strings.Cut(agent, version)
	return ok && minor != "" && '0' <= minor[0] && minor[0] <= '3' && (len(minor) == 1 || minor[1] < '0' || minor[1] > '9')
}
