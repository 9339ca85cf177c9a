package option

import (
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"sluice/gateway"
)

// fuzzed has an option of each kind.
type fuzzed struct {
	Listen     []string           `name:"listen"`
	MaxMessage int                `name:"max-message" unit:"bytes" default:"64KiB"`
	Memory     int64              `name:"memory-limit" unit:"bytes" default:"auto" off:"no limit"`
	Greeting   string             `name:"greeting" meta:"TEXT"`
	Config     string             `name:"config" meta:"FILE"`
	Raw        gateway.Raw        `name:"raw" words:"auto,off" default:"auto"`
	Slow       []gateway.SlowRule `name:"slow-policy"`
	Proxies    []netip.Prefix     `name:"trusted-proxies"`
	Rate       int                `name:"address-rate" unit:"/s" default:"auto" off:"no limit"`
	Accept     int                `name:"accept-rate" unit:"/s" default:"off" off:"no limit"`
	History    int                `name:"history" default:"100" off:"no history"`
	Ping       time.Duration      `name:"ping-interval" default:"25s" off:"never"`
}

// Whatever a configuration file contains, each fault names its line, and what is accepted
// means the same after `sluice config` has written it again.
func FuzzConfigFile(f *testing.F) {
	for _, seed := range []string{
		"listen = :8000\n", "\ufeffmax-message = 64KiB # a comment\n", "greeting = \"a # b\"\n", "slow-policy = prices.*=skip,*=close\n",
		"max-message = 99999999999999999999GiB", "trusted-proxies = 10.0.0.0/8\ntrusted-proxies = ::1\n", "= =", "greeting = \"\\x00\"",
		"address-rate = 20/s\naccept-rate = off\nmemory-limit = 1.5GiB", "ping-interval = -1s\nping-interval = 1h", "config = other", "\x00\xff = \r",
	} {
		f.Add(seed)
	}
	known := New(new(fuzzed)) // only read: making them is most of the work
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4<<10 {
			return
		}
		file, faults := known.parseFile("FILE", text)
		for _, err := range faults {
			if !strings.HasPrefix(err.Error(), "FILE:") {
				t.Errorf("a fault without its line: %v", err)
			}
		}
		if len(file) == 0 {
			return
		}
		opts, again := New(new(fuzzed)), New(new(fuzzed))
		for name := range file {
			opt := opts.ByName[name]
			if err := opts.settle(opt, file); err != nil {
				if !strings.Contains(err.Error(), name) {
					t.Errorf("a fault that does not name %s: %v", name, err)
				}
				continue
			}
			if !utf8.ValidString(opt.Text) || strings.ContainsAny(opt.Text, "\r\n") {
				continue // such a value cannot be written in one line
			}
			second, faults := again.parseFile("AGAIN", name+" = "+FileValue(opt.Text)+"\n")
			if len(faults) > 0 {
				t.Fatalf("%s = %q does not come back: %v", name, opt.Text, faults)
			}
			if err := again.settle(again.ByName[name], second); err != nil || again.ByName[name].Text != opt.Text {
				t.Fatalf("%s = %q comes back as %q, %v", name, opt.Text, again.ByName[name].Text, err)
			}
		}
	})
}
