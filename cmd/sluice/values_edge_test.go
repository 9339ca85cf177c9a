package main

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/gateway"
)

func TestEdgeSettingsReachTheGateway(t *testing.T) {
	file := "slow-policy = prices.*=skip,a=b=close\nslow-policy = *=skip\ntls-self-signed = off\n"
	cfg, opts, err := resolveOptions(t, []string{
		"--trusted-proxies", "10.0.0.0/8,192.0.2.7", "--trusted-proxies=2001:db8::1", "--proxy-protocol", "fd00::/8",
		"--max-per-address", "off", "--address-rate", "7/s", "--accept-rate", "500", "--memory-limit", "256MiB", "--refuse", "close",
		"--message-rate", "auto", "--control-rate", "off", "--channel-rate", "off", "--join-rate", "50", "--message-timeout", "3s", "--close-timeout", "1m", "--notsent-lowat", "16KiB",
	}, nil, file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cfg.plan(opts); err != nil { // --tcp-user-timeout gives way to a longer --close-timeout
		t.Fatal(err)
	}
	got, want := cfg.gateway, gateway.Config{
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("2001:db8::1/128")},
		ProxyProtocol:  []netip.Prefix{netip.MustParsePrefix("fd00::/8")},
		MaxPerAddress:  -1, AddressRate: 7, AcceptRate: 500, MemoryLimit: 256 << 20, Refuse: gateway.RefuseClose,
		SlowPolicy:  []gateway.SlowRule{{Pattern: "prices.*", Skip: true}, {Pattern: "a=b"}, {Pattern: "*", Skip: true}},
		MessageRate: 0, ControlRate: -1, ChannelRate: 0, JoinRate: 50, MessageTimeout: 3 * time.Second,
		NotsentLowat: 16 << 10,
	}
	edge := func(c gateway.Config) gateway.Config {
		return gateway.Config{
			TrustedProxies: c.TrustedProxies, ProxyProtocol: c.ProxyProtocol, MaxPerAddress: c.MaxPerAddress, AddressRate: c.AddressRate,
			AcceptRate: c.AcceptRate, MemoryLimit: c.MemoryLimit, Refuse: c.Refuse, SlowPolicy: c.SlowPolicy, MessageRate: c.MessageRate,
			ControlRate: c.ControlRate, ChannelRate: c.ChannelRate, JoinRate: c.JoinRate, MessageTimeout: c.MessageTimeout, UserTimeout: c.UserTimeout, NotsentLowat: c.NotsentLowat,
		}
	}
	if diff := cmp.Diff(want, edge(got), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

func TestNetworks(t *testing.T) {
	for text, want := range map[string]string{
		"127.0.0.1": "127.0.0.1/32", "::1": "::1/128", "10.0.0.0/8": "10.0.0.0/8", "0.0.0.0/0": "0.0.0.0/0", "2001:db8::/32": "2001:db8::/32",
	} {
		if got, err := parsePrefix(text); err != nil || got.String() != want {
			t.Errorf("parsePrefix(%q) = %v, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "proxy", "10.0.0.0/33", "10.0.0/8", "10.0.0.1/8", "fe80::1%eth0", "::ffff:10.0.0.1", "::ffff:0:0/96", "unix"} {
		if got, err := parsePrefix(text); err == nil {
			t.Errorf("parsePrefix(%q) = %v, want an error", text, got)
		}
	}
}
