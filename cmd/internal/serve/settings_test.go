package serve

import (
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"sluice/cmd/internal/clitest"
	"sluice/cmd/internal/option"
	"sluice/gateway"
	"sluice/gateway/setting"
)

// resolveOptions runs the layers over a command line, an environment and a file.
func resolveOptions(t *testing.T, args, env []string, file string) (*Settings, *option.Options, error) {
	t.Helper()
	cfg := new(Settings)
	opts := option.New(cfg)
	cmd := &cobra.Command{Use: "serve"}
	opts.Register(cmd)
	if file != "" {
		args = append(args, "--config", clitest.WriteFile(t, "sluice.conf", file))
	}
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	return cfg, opts, opts.Resolve(env)
}

func TestFlagComesBeforeEnvironmentBeforeFileBeforeDefault(t *testing.T) {
	const file = "ping-interval = 1m\n"
	env := []string{"HOME=/root", "SLUICE_PING_INTERVAL=2m"}
	flag := []string{"--ping-interval", "3m"}
	tests := []struct {
		name      string
		args, env []string
		file      string
		want      time.Duration
		text      string
		kind      option.SourceKind
		place     string
	}{
		{"all", flag, env, file, 3 * time.Minute, "3m", option.FromFlag, "--ping-interval"},
		{"environment and file", nil, env, file, 2 * time.Minute, "2m", option.FromEnv, "SLUICE_PING_INTERVAL"},
		{"file", nil, nil, file, time.Minute, "1m", option.FromFile, "sluice.conf:1"},
		{"empty variable", nil, []string{"SLUICE_PING_INTERVAL="}, file, time.Minute, "1m", option.FromFile, "sluice.conf:1"},
		{"nothing", nil, nil, "", 25 * time.Second, "25s", option.FromDefault, ""},
		{"the last flag", append(flag, "--ping-interval=4m"), nil, "", 4 * time.Minute, "4m", option.FromFlag, "--ping-interval"},
		{"an overridden value is not looked at", flag, []string{"SLUICE_PING_INTERVAL=soon"}, "", 3 * time.Minute, "3m", option.FromFlag, "--ping-interval"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg, opts, err := resolveOptions(t, tt.args, tt.env, tt.file)
			if err != nil {
				t.Fatal(err)
			}
			opt := opts.ByName["ping-interval"]
			if got := cfg.Gateway.PingInterval; got != tt.want {
				t.Errorf("ping interval %v, want %v", got, tt.want)
			}
			if opt.Text != tt.text {
				t.Errorf("text %q, want %q", opt.Text, tt.text)
			}
			if place := filepath.Base(opt.Source.Place); opt.Source.Kind != tt.kind || tt.place != "" && place != tt.place {
				t.Errorf("source %v %q, want %v %q", opt.Source.Kind, opt.Source.Place, tt.kind, tt.place)
			}
		})
	}
}

func TestConfigFileMayBeNamedByTheEnvironment(t *testing.T) {
	path := clitest.WriteFile(t, "sluice.conf", "max-channels = 7")
	cfg, opts, err := resolveOptions(t, nil, []string{"SLUICE_CONFIG=" + path}, "")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Gateway.MaxChannels != 7 {
		t.Errorf("max channels %d, want 7", cfg.Gateway.MaxChannels)
	}
	if got, want := opts.ByName["max-channels"].Source.Place, path+":1"; got != want {
		t.Errorf("source %q, want %q", got, want)
	}
}

func TestRepeatableOptionsTakeListsAndRepetition(t *testing.T) {
	want := []string{"127.0.0.1:1", "[::1]:2", "unix:/s"}
	tests := []struct {
		name      string
		args, env []string
		file      string
	}{
		{"flags", []string{"--listen", "127.0.0.1:1", "--listen=[::1]:2", "--listen", "unix:/s"}, nil, ""},
		{"flags and lists", []string{"--listen", "127.0.0.1:1,[::1]:2", "--listen", "unix:/s"}, nil, "listen = :9\n"},
		{"variable", nil, []string{"SLUICE_LISTEN=127.0.0.1:1, [::1]:2,unix:/s"}, "listen = :9\n"},
		{"keys", nil, nil, "listen = 127.0.0.1:1\nlisten = [::1]:2, unix:/s\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg, opts, err := resolveOptions(t, tt.args, tt.env, tt.file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, cfg.Listen); diff != "" {
				t.Error(diff)
			}
			if got, want := opts.ByName["listen"].Text, strings.Join(want, ","); got != want {
				t.Errorf("text %q, want %q", got, want)
			}
		})
	}
}

func TestConfigFileSyntax(t *testing.T) {
	const file = "\ufeff# a comment = none\r\n\r\n  max-message=16KiB # behind a value\r\nraw = listen\n" +
		"ws-path = /socket#1\n\tsend-buffer = off\ngreeting = \"a \\\"b\\\" #1\"  # quoted\nsubprotocols =#1\n"
	cfg, _, err := resolveOptions(t, nil, nil, file)
	if err != nil {
		t.Fatal(err)
	}
	got := []any{cfg.Gateway.MaxMessage, cfg.Gateway.Raw, cfg.Gateway.WSPaths, cfg.Gateway.SendBuffer, cfg.Gateway.Greeting, cfg.Gateway.Subprotocols}
	if diff := cmp.Diff([]any{16 << 10, gateway.RawListen, []string{"/socket#1"}, -1, `a "b" #1`, []string{"#1"}}, got); diff != "" {
		t.Error(diff)
	}
}

func TestEveryFaultOfTheLayersIsOneLine(t *testing.T) {
	tests := []struct {
		name      string
		args, env []string
		file      string
		want      []string // a line each; FILE stands for the file's path
	}{
		{"unknown key", nil, nil, "\nmax_message = 1KiB", []string{
			`FILE:2: unknown key "max_message": did you mean max-message?`}},
		{"unknown key like no other", nil, nil, "colour = red", []string{
			`FILE:1: unknown key "colour": keys are flags without the dashes, see 'sluice serve --help'`}},
		{"unknown variable", nil, []string{"SLUICE_LISTN=:1"}, "", []string{
			`unknown variable SLUICE_LISTN: did you mean SLUICE_LISTEN?`}},
		{"unknown variable like no other", nil, []string{"SLUICE_COLOUR=:1"}, "", []string{
			`unknown variable SLUICE_COLOUR: unset it, or see 'sluice serve --help'`}},
		{"not a setting", nil, nil, "raw: listen", []string{
			`FILE:1: "raw: listen" is not a setting: write 'key = value'`}},
		{"set twice", nil, nil, "raw = listen\nraw = off", []string{
			`FILE:2: raw is already set by FILE:1; keep one of them`}},
		{"nested file", nil, nil, "config = x", []string{
			`FILE:1: a configuration file cannot include another: remove the key config`}},
		{"quotes left open", nil, nil, `greeting = "hello`, []string{
			`FILE:1: greeting: unbalanced quotes; put one at each end of the value, and write \" for a quote inside it`}},
		{"something behind the quotes", nil, nil, `greeting = "hello" world`, []string{
			`FILE:1: greeting: unbalanced quotes; put one at each end of the value, and write \" for a quote inside it`}},
		{"no value", nil, nil, "raw =", []string{
			`FILE:1: raw = : the value is empty; specify a value or omit the option`}},
		{"several at once", []string{"--max-message", "64KB", "--loops=0"}, []string{"SLUICE_RAW=yes"}, "ping-interval = 25", []string{
			`SLUICE_RAW=yes: must be one of auto, publish, listen, off`,
			`--max-message 64KB: must be a size: a whole number of bytes, or one with the unit B, KiB, MiB or GiB, such as 64KiB`,
			`--loops 0: must be a whole number of at least 1, or auto`,
			`FILE:1: ping-interval = 25: must be a duration with a unit, such as 500ms, 10s or 2m`}},
		{"zero", []string{"--max-message=0", "--ping-interval=0", "--close-timeout=-1s", "--max-channels=x"}, nil, "", []string{
			`--max-message 0: must be greater than 0`,
			`--max-channels x: must be a whole number of at least 1`,
			`--ping-interval 0: must be greater than 0, or off`,
			`--close-timeout -1s: must be greater than 0`}},
		{"below zero where zero is a value", []string{"--batch-window=-1s"}, nil, "", []string{
			`--batch-window -1s: must not be negative`}},
		{"empty in a list", []string{"--listen", ":1,,:2"}, nil, "", []string{
			`--listen '': the value is empty; specify a value or omit the option`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, opts, err := resolveOptions(t, tt.args, tt.env, tt.file)
			if err == nil {
				t.Fatal("no error")
			}
			text := err.Error()
			if path := opts.ByName["config"].Text; path != "" {
				text = strings.ReplaceAll(text, path, "FILE")
			}
			got := strings.Split(text, "\n")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Kubernetes and Docker set these for a service that is called sluice.
func TestServiceLinksOfAnOrchestratorAreNotMistakes(t *testing.T) {
	_, _, err := resolveOptions(t, nil, []string{
		"SLUICE_SERVICE_HOST=10.0.0.1", "SLUICE_SERVICE_PORT=80", "SLUICE_SERVICE_PORT_HTTP=80",
		"SLUICE_PORT=tcp://10.0.0.1:80", "SLUICE_PORT_80_TCP=tcp://10.0.0.1:80", "SLUICE_PORT_80_TCP_PROTO=tcp",
		"SLUICE_INTERNAL_SERVICE_HOST=10.0.0.1", "SLUICE_INTERNAL_PORT=tcp://10.0.0.1:80",
	}, "")
	if err != nil {
		t.Error(err)
	}
	if _, _, err := resolveOptions(t, nil, []string{"SLUICE_PORT=8000"}, ""); err == nil {
		t.Error("SLUICE_PORT=8000 was taken for a service link")
	}
}

func TestDefaultsAreThoseOfTheGateway(t *testing.T) {
	cfg, _, err := resolveOptions(t, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	var want gateway.Config
	setting.Defaults(&want) // the limits per client stay zero: an explicit one would apply on loopback too
	if diff := cmp.Diff(want, cfg.Gateway); diff != "" {
		t.Error(diff)
	}
	if err := cfg.Gateway.Validate(); err != nil {
		t.Error(err)
	}
}

// The gateway's faults name fields: each that an operator can set has its flag.
func TestEveryFieldOfTheGatewayHasItsFlag(t *testing.T) {
	opts := option.New(new(Settings))
	byProgram := []string{"Tokens", "PublishURL", "Version", "Commit", "Visitors", "CertificateExpiry", "FieldName", "Logger", "Inherited", "Events"}
	byProgram = append(byProgram, "Store") // whose fields have them
	for _, f := range append(reflect.VisibleFields(reflect.TypeFor[gateway.Config]()), reflect.VisibleFields(reflect.TypeFor[gateway.Store]())...) {
		flag := opts.FlagOf(f.Name)
		if own := slices.Contains(byProgram, f.Name); own != !strings.HasPrefix(flag, "--") {
			t.Errorf("%s is called %s", f.Name, flag)
		}
	}
	for field, want := range map[string]string{
		"MaxMessage": "--max-message", "UserTimeout": "--tcp-user-timeout", "WSPaths": "--ws-path", "SlowPolicy": "--slow-policy",
		"NoPage": "--page=off", "APIKey": "--api-key-file", "ClientCA": "--tls-client-ca",
	} {
		if got := opts.FlagOf(field); got != want {
			t.Errorf("%s is called %s, want %s", field, got, want)
		}
	}
}

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
	if _, err := cfg.Plan(opts); err != nil { // --tcp-user-timeout gives way to a longer --close-timeout
		t.Fatal(err)
	}
	got, want := cfg.Gateway, gateway.Config{
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("2001:db8::1/128")},
		ProxyProtocol:  []netip.Prefix{netip.MustParsePrefix("fd00::/8")},
		MaxPerAddress:  -1, AddressRate: 7, AcceptRate: 500, MemoryLimit: 256 << 20, Refuse: gateway.RefuseClose,
		SlowPolicy:  []gateway.SlowRule{{Pattern: "prices.*", Skip: true}, {Pattern: "a=b"}, {Pattern: "*", Skip: true}},
		ControlRate: -1, ChannelRate: -1, JoinRate: 50, MessageTimeout: 3 * time.Second,
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
