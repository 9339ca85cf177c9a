package main

import (
	"encoding/json"
	"net"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/clitest"
	"sluice/cmd/internal/option"
	"sluice/cmd/internal/serve"
)

func TestWrongCallsAreToldInOneLineEach(t *testing.T) {
	empty := clitest.WriteFile(t, "empty", " \n")
	twoWords := clitest.WriteFile(t, "two", "one two\n")
	tests := []struct {
		name string
		env  []string
		args string
		want []string // without "sluice: "
	}{
		{"unknown flag", nil, "--max-mesage 1", []string{`unknown flag --max-mesage: did you mean --max-message?`}},
		{"unknown flag of serve", nil, "serve --lisen=:1", []string{`unknown flag --lisen: did you mean --listen?`}},
		{"unknown flag like no other", nil, "serve --colour", []string{`unknown flag --colour: see 'sluice serve --help'`}},
		{"unknown shorthand", nil, "-x", []string{`unknown flag -x: see 'sluice serve --help'`}},
		{"one dash", nil, "-listen :1", []string{`unknown flag -listen: did you mean --listen?`}},
		{"one dash and a value", nil, "check -max-mesage=1", []string{`unknown flag -max-mesage: did you mean --max-message?`}},
		{"help with one dash", nil, "-help", []string{`unknown flag -help: did you mean --help?`}},
		{"unknown flag of check", nil, "check --lisen=:1", []string{`unknown flag --lisen: did you mean --listen?`}},
		{"unknown flag of config", nil, "config --jsom", []string{`unknown flag --jsom: did you mean --json?`}},
		{"unknown flag of health", nil, "health --timout 1s", []string{`unknown flag --timout: did you mean --timeout?`}},
		{"unknown flag of a scenario", nil, "bench idle --conections 1", []string{`unknown flag --conections: did you mean --connections?`}},
		{"flag of another command", nil, "version --jsn", []string{`unknown flag --jsn: did you mean --json?`}},
		{"bad boolean", nil, "version --json=perhaps", []string{`--json perhaps: invalid syntax; see 'sluice version --help'`}},
		{"no count", nil, "sub news --history x", []string{`--history x: not a whole number; see 'sluice sub --help'`}},
		{"count out of range", nil, "sub news --count 99999999999999999999", []string{`--count 99999999999999999999: value out of range; see 'sluice sub --help'`}},
		{"no value", nil, "--listen", []string{`--listen needs a value: see 'sluice serve --help'`}},
		{"unknown command", nil, "serv", []string{`unknown command "serv": did you mean serve?`}},
		{"unknown command like no other", nil, "fly", []string{`unknown command "fly": see 'sluice --help'`}},
		{"a command of bench", nil, "fanout", []string{`unknown command "fanout": did you mean sluice bench fanout?`}},
		{"a longer word", nil, "publish", []string{`unknown command "publish": did you mean pub?`}},
		{"a shorter word", nil, "comp", []string{`unknown command "comp": did you mean completion?`}},
		{"no duration", nil, "health --timeout 2", []string{`--timeout 2: must be a duration with a unit, such as 500ms, 10s or 2m; see 'sluice health --help'`}},
		{"unknown command of bench", nil, "bench fanot", []string{`unknown command "fanot": did you mean sluice bench fanout?`}},
		{"hidden command", nil, "bench floor-sende", []string{`unknown command "floor-sende": did you mean sluice bench floor?`}},
		{"help of an unknown command", nil, "help chek", []string{`unknown command "chek": did you mean sluice help check?`}},
		{"help of an unknown subcommand", nil, "help bench strom", []string{`unknown command "strom": did you mean sluice help bench storm?`}},
		{"help of a command of bench", nil, "help fanout", []string{`unknown command "fanout": did you mean sluice help bench fanout?`}},
		{"no shell", nil, "completion", []string{`missing shell: use bash, zsh, fish or powershell`}},
		{"unknown shell", nil, "completion tcsh", []string{`unknown shell "tcsh": use bash, zsh, fish or powershell`}},
		{"value of a switch", nil, "serve --insecure off", []string{`unexpected argument "off": the value of a switch follows an equals sign, as in --insecure=off; see 'sluice serve --help'`}},
		{"value of one of two switches", nil, "serve --insecure --tls-self-signed false", []string{`unexpected argument "false": the value of a switch follows an equals sign, as in --FLAG=off; see 'sluice serve --help'`}},
		{"empty address", nil, "serve --listen=", []string{`--listen '': the value is empty; specify a value or omit the option`}},
		{"argument", nil, "serve now", []string{`unexpected argument "now": serve accepts only flags; see 'sluice serve --help'`}},
		{"unknown variable", []string{"SLUICE_RAWW=off"}, "", []string{`unknown variable SLUICE_RAWW: did you mean SLUICE_RAW?`}},
		{"no file", nil, "--config /no/such/file", []string{`--config /no/such/file: no such file or directory; use a file with lines 'key = value'`}},
		{"addresses", nil, "--listen 8000 --listen localhost: --internal-listen unix:", []string{
			`--listen 8000: not an address; use HOST:PORT, such as 127.0.0.1:8000 or :8000, or unix:/path`,
			`--listen localhost:: not an address; use HOST:PORT, such as 127.0.0.1:8000 or :8000, or unix:/path`,
			`--internal-listen unix:: missing path; use one such as unix:/run/sluice.sock`}},
		{"an address of the environment", []string{"SLUICE_LISTEN=8000"}, "", []string{
			`--listen 8000: not an address; use HOST:PORT, such as 127.0.0.1:8000 or :8000, or unix:/path (set by SLUICE_LISTEN)`}},
		{"an internal listener of the environment", []string{"SLUICE_INTERNAL_LISTEN=:0"}, "", []string{
			`--internal-listen :0 needs --api-key-file, because other machines can reach it and it allows publishing and profiling; add a key file, or listen on 127.0.0.1 (set by SLUICE_INTERNAL_LISTEN)`}},
		{"a listener twice", nil, "--listen :8000,:8000", []string{`--listen :8000 is specified twice: remove one`}},
		{"no web root", nil, "--web-root /no/such/dir", []string{
			`--web-root /no/such/dir: no such file or directory; use a readable directory`}},
		{"web root that is a file", []string{"SLUICE_WEB_ROOT=" + empty}, "", []string{
			`--web-root ` + empty + `: not a directory; use the directory with index.html (set by SLUICE_WEB_ROOT)`}},
		{"faults of several kinds at once", nil, "--listen 8000 --web-root /no/such/dir --max-message 1B --api-key-file /no/such/file", []string{
			`--listen 8000: not an address; use HOST:PORT, such as 127.0.0.1:8000 or :8000, or unix:/path`,
			`--max-message 1B is too small: use at least 125B, the size of a control frame`,
			`--api-key-file /no/such/file: no such file or directory; use a file with the key on one line`,
			`--web-root /no/such/dir: no such file or directory; use a readable directory`}},
		{"sizes", nil, "--max-pending 65536 --max-message 64KiB --channel-buffer 4096", []string{
			`--channel-buffer 4KiB cannot hold two messages of --max-message 64KiB: use at least 130KiB`,
			`--max-pending 64KiB cannot hold the reply to a message of --max-message 64KiB: use at least 96KiB`}},
		{"one address twice", nil, "--listen 127.0.0.1:9000", []string{
			`--internal-listen 127.0.0.1:9000 is also a --listen address: use another port, or off`}},
		{"internal listener within reach", nil, "--internal-listen :0", []string{
			`--internal-listen :0 needs --api-key-file, because other machines can reach it and it allows publishing and profiling; add a key file, or listen on 127.0.0.1`}},
		{"drain-duration", nil, "--shutdown-timeout 5s", []string{
			`--drain-duration 10s is longer than --shutdown-timeout 5s: clients would be cut off; raise --shutdown-timeout, or lower --drain-duration`}},
		{"drain-delay", nil, "--drain-delay 21s", []string{
			`--drain-delay 21s and --drain-duration 10s are longer than --shutdown-timeout 30s: clients would be cut off; raise --shutdown-timeout, or lower one of them`}},
		{"no way in", nil, "--listen off", []string{`--listen off leaves no listener for clients: add --tls-listen, or use an address`}},
		{"off and an address", nil, "--listen off,:8000", []string{`--listen off,:8000: off cannot be combined with an address; remove one of them`}},
		{"one address plain and with TLS", nil, "--listen :8000 --tls-listen :8000 --tls-self-signed", []string{
			`--tls-listen :8000 is specified twice: remove one`,
			`--tls-listen :8000: other machines can reach it, and --tls-self-signed is for trials on loopback; use --tls-cert and --tls-key, or listen on 127.0.0.1`}},
		{"internal listener where TLS is", nil, "--tls-listen 127.0.0.1:9000 --tls-self-signed=on", []string{
			`--internal-listen 127.0.0.1:9000 is also a --tls-listen address: use another port, or off`}},
		{"TLS without a certificate", []string{"SLUICE_TLS_LISTEN=:8443"}, "", []string{
			`--tls-listen :8443 needs a certificate: add --tls-cert and --tls-key, or --tls-self-signed for a trial on loopback (set by SLUICE_TLS_LISTEN)`}},
		{"a certificate without TLS", nil, "--tls-cert c --tls-key k --tls-listen off", []string{
			`--tls-cert c, --tls-key k have no effect without --tls-listen: add an address for TLS clients, such as --tls-listen :8443`}},
		{"a trial without TLS", nil, "--tls-self-signed", []string{
			`--tls-self-signed has no effect without --tls-listen: add an address for TLS clients, such as --tls-listen 127.0.0.1:8443`}},
		{"no way in for TLS either", nil, "--listen off --tls-listen off", []string{`--listen off leaves no listener for clients: add --tls-listen, or use an address`}},
		{"off and an address for TLS", nil, "--tls-listen off,127.0.0.1:0 --tls-self-signed", []string{`--tls-listen off,127.0.0.1:0: off cannot be combined with an address; remove one of them`}},
		{"a certificate without its key", nil, "--tls-listen :0 --tls-cert c", []string{`--tls-cert c needs its private key: add --tls-key`}},
		{"a key without its certificate", nil, "--tls-listen :0 --tls-key k", []string{`--tls-key k needs its certificate: add --tls-cert`}},
		{"two certificates", nil, "--tls-listen 127.0.0.1:0 --tls-self-signed --tls-client-ca ca", []string{
			`--tls-self-signed cannot be combined with certificate files: remove it, or remove --tls-cert, --tls-key and --tls-client-ca`}},
		{"certificate files", []string{"SLUICE_TLS_KEY=" + empty}, "--tls-listen :0 --tls-cert /no/such/file --web-root /no/such/dir", []string{
			`--web-root /no/such/dir: no such file or directory; use a readable directory`,
			`--tls-cert /no/such/file: no such file or directory; use a PEM file with the certificate and its chain`,
			`--tls-key ` + empty + `: it contains no private key; use a PEM file with the certificate's private key (set by SLUICE_TLS_KEY)`}},
		{"bounds at the edge", nil, "--max-per-address 0 --address-rate 5/m --accept-rate auto --slow-policy prices --proxy-protocol 10.0.0.1/8 --refuse 429", []string{
			`--proxy-protocol 10.0.0.1/8: has host bits set; did you mean 10.0.0.0/8 or 10.0.0.1?`,
			`--max-per-address 0: must be a whole number of at least 1, auto or off`,
			`--address-rate 5/m: must be a rate: a whole number per second, such as 50 or 50/s, auto or off`,
			`--accept-rate auto: must be a rate: a whole number per second, such as 50 or 50/s, or off`,
			`--refuse 429: must be one of http, close`,
			`--slow-policy prices: must be a rule PATTERN=close or PATTERN=skip, such as prices.*=skip`}},
		{"empty key", nil, "--api-key-file " + empty, []string{
			`--api-key-file ` + empty + `: the file is empty; write a key to it, such as the output of 'openssl rand -hex 32'`}},
		{"key of two words", []string{"SLUICE_API_KEY_FILE=" + twoWords}, "", []string{
			`--api-key-file ` + twoWords + `: the key contains spaces or characters that an HTTP header cannot carry; use one word of printable ASCII (set by SLUICE_API_KEY_FILE)`}},
		{"no key file", nil, "--api-key-file /no/such/file", []string{
			`--api-key-file /no/such/file: no such file or directory; use a file with the key on one line`}},
		{"what the gateway refuses, with the source", []string{"SLUICE_PONG_TIMEOUT=10ms"}, "--batch-window 2s --loop-timeout 10s", []string{
			`--batch-window 2s is out of range: use 0 to 1s`,
			`--pong-timeout 10ms is too short: timeouts are checked once a second; use at least 1s (set by SLUICE_PONG_TIMEOUT)`,
			`--loop-timeout 10s is too short: the process must run long enough to log a stuck loop's stack, which happens after 10 s; use at least 11s, or off`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, stdout, stderr := runOnce(tt.env, strings.Fields(tt.args)...)
			if code != cli.ExitUsage {
				t.Errorf("exit code %d, want %d", code, cli.ExitUsage)
			}
			if stdout != "" {
				t.Errorf("stdout %q, want none", stdout)
			}
			want := "sluice: " + strings.Join(tt.want, "\nsluice: ") + "\n"
			if stderr != want {
				t.Errorf("stderr\n%swant\n%s", stderr, want)
			}
		})
	}
}

func TestEveryBadOriginIsALineThatNamesItsFlag(t *testing.T) {
	code, _, stderr := runOnce(nil, "--allowed-origins", "https://a.example/path,example.com")
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	if code != cli.ExitUsage || len(lines) != 2 {
		t.Fatalf("exit code %d, stderr:\n%s", code, stderr)
	}
	for _, line := range lines {
		if !strings.HasPrefix(line, "sluice: --allowed-origins: ") {
			t.Errorf("line %q does not name its flag", line)
		}
	}
}

func TestPortInUseNamesTheAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr := l.Addr().String()
	for _, args := range [][]string{
		{"--listen", addr, "--internal-listen", "off"},
		{"--listen", "127.0.0.1:0", "--internal-listen", addr},
	} {
		code, _, stderr := runOnce(nil, args...)
		want := "sluice: " + args[0] + " " + addr + ": address already in use; stop the process that 'ss -ltnp' shows there, or use another port\n"
		if args[3] == addr {
			want = strings.Replace(want, "--listen", "--internal-listen", 1)
		}
		if code != cli.ExitFailed || stderr != want {
			t.Errorf("%v: exit code %d, stderr %q; want %d, %q", args, code, stderr, cli.ExitFailed, want)
		}
	}
	code, _, stderr := runOnce([]string{"SLUICE_LISTEN=" + addr}, "--internal-listen", "off")
	want := "sluice: --listen " + addr + ": address already in use; stop the process that 'ss -ltnp' shows there, or use another port (set by SLUICE_LISTEN)\n"
	if code != cli.ExitFailed || stderr != want {
		t.Errorf("from the environment: exit code %d, stderr %q; want %d, %q", code, stderr, cli.ExitFailed, want)
	}
}

func TestHelpNamesEveryOptionWithin80Columns(t *testing.T) {
	for _, args := range [][]string{{"serve", "--help"}, {"help", "serve"}, {"check", "--help"}} {
		code, help, stderr := runOnce(nil, args...)
		if code != 0 || stderr != "" {
			t.Fatalf("%v: exit code %d, stderr %q", args, code, stderr)
		}
		for line := range strings.Lines(help) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
				t.Errorf("%v: %d columns: %q", args, n, line)
			}
		}
		for _, opt := range option.New(new(serve.Settings)).List {
			text := flagText(help, opt.Name)
			if !strings.Contains(text, " [$"+opt.Env()+"]") || opt.Default != "" && !strings.HasSuffix(text, " (default "+opt.Default+")") {
				t.Errorf("%v: --%s without %s and the default %q: %q", args, opt.Name, opt.Env(), opt.Default, text)
			}
			if !strings.Contains(help, "\n"+opt.Group+":\n") {
				t.Errorf("%v: no group %s", args, opt.Group)
			}
		}
		if strings.Index(help, "Examples:") > strings.Index(help, "Listeners:") {
			t.Errorf("%v: the examples do not come first", args)
		}
	}
}

func TestVersion(t *testing.T) {
	code, stdout, stderr := runOnce(nil, "version", "--json")
	var b cli.Build
	if err := json.Unmarshal([]byte(stdout), &b); err != nil || code != 0 || stderr != "" {
		t.Fatalf("exit code %d, stderr %q, JSON: %v", code, stderr, err)
	}
	if b.Version == "" || b.Go != runtime.Version() {
		t.Errorf("version %q, Go %q", b.Version, b.Go)
	}
	if code, stdout, _ = runOnce(nil, "version"); code != 0 || !strings.HasPrefix(stdout, "sluice ") {
		t.Errorf("exit code %d, stdout %q", code, stdout)
	}
	if code, stdout, _ = runOnce(nil, "--version"); code != 0 || stdout != "sluice version "+b.Version+"\n" {
		t.Errorf("--version: exit code %d, stdout %q", code, stdout)
	}
}
