package main

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// Whatever a configuration file contains, each fault names its line, and what is accepted
// means the same after `sluice config` has written it again.
func FuzzConfigFile(f *testing.F) {
	for _, seed := range []string{
		"listen = :8000\n", "\ufeffmax-message = 64KiB # a comment\n", "greeting = \"a # b\"\n", "slow-policy = prices.*=skip,*=close\n",
		"max-message = 99999999999999999999GiB", "trusted-proxies = 10.0.0.0/8\ntrusted-proxies = ::1\n", "= =", "tls-cert = \"\\x00\"",
		"address-rate = 20/s\nmessage-rate = off\nmemory-limit = 1.5GiB", "ping-interval = -1s\nping-interval = 1h", "config = other", "\x00\xff = \r",
	} {
		f.Add(seed)
	}
	known := new(settings).options() // only read: making them is most of the work
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
		opts, again := new(settings).options(), new(settings).options()
		for name := range file {
			opt := opts.byName[name]
			if err := opts.settle(opt, file); err != nil {
				if !strings.Contains(err.Error(), name) {
					t.Errorf("a fault that does not name %s: %v", name, err)
				}
				continue
			}
			if !utf8.ValidString(opt.text) || strings.ContainsAny(opt.text, "\r\n") {
				continue // such a value cannot be written in one line
			}
			second, faults := again.parseFile("AGAIN", name+" = "+fileValue(opt.text)+"\n")
			if len(faults) > 0 {
				t.Fatalf("%s = %q does not come back: %v", name, opt.text, faults)
			}
			if err := again.settle(again.byName[name], second); err != nil || again.byName[name].text != opt.text {
				t.Fatalf("%s = %q comes back as %q, %v", name, opt.text, again.byName[name].text, err)
			}
		}
	})
}
