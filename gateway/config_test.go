package gateway

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/gateway/access/namespace"
	"sluice/gateway/clienttest"
	"sluice/gateway/edge"
	"sluice/gateway/edge/admit"
	"sluice/gateway/hook"
	"sluice/gateway/loop"
	"sluice/gateway/rate"
	"sluice/gateway/setting"
	"sluice/poller"

	"github.com/google/go-cmp/cmp"
)

var defaults = Config{}.withDefaults()

// Every tag of Config that Rows reads parses, and bounds in it are those of the packages that have them.
func TestTagsOfAConfigFitTheFields(t *testing.T) {
	known := []string{"name", "group", "meta", "default", "off", "auto", "min", "max", "small", "large", "words", "unit", "reload", "help"}
	pair := regexp.MustCompile(`^([a-z]+):"(?:[^"\\\\]|\\\\.)*"( |$)`)
	for _, f := range append(reflect.VisibleFields(reflect.TypeFor[Config]()), reflect.VisibleFields(reflect.TypeFor[Store]())...) {
		for rest := string(f.Tag); rest != ""; {
			m := pair.FindStringSubmatch(rest)
			if m == nil || !slices.Contains(known, m[1]) {
				t.Fatalf("%s: no tag: %s", f.Name, rest)
			}
			rest = rest[len(m[0]):]
		}
	}
	for _, r := range setting.Rows(new(Config)) {
		if r.Group == "" || r.Help == "" || r.Default == "" && !r.List && r.Meta != "TEXT" && r.Meta != "DIR" && r.Meta != "FILE" {
			t.Errorf("%s has no group, help or default", r.Field)
		}
		if r.Meta == "RATE" && r.Max != fmt.Sprintf("%d, or off", rate.Max) {
			t.Errorf("%s: at most %s", r.Field, r.Max)
		}
		if r.Field == "LoopTimeout" && r.Min != fmt.Sprintf("%ds, or off", loop.UnhealthyAfter+1) {
			t.Errorf("%s: at least %s", r.Field, r.Min)
		}
	}
	var huge Config
	for _, config := range []reflect.Value{reflect.ValueOf(&huge).Elem(), reflect.ValueOf(&huge.Store).Elem()} {
		for i := range config.NumField() {
			if config.Field(i).CanInt() {
				config.Field(i).SetInt(math.MaxInt64)
			}
		}
	}
	setting.Bounds(&huge) // panics if a bound does not parse
}

// selecting returns namespaces that select hooks.
func selecting(t *testing.T) *namespace.Set {
	set, err := namespace.Parse([]byte(`{"without_namespace":{"subscribe_proxy_enabled":true},"namespaces":[{"name":"chat","publish_proxy_enabled":true,"publish_proxy_name":"moderation"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestEveryFaultOfAConfigSaysHowToMendIt(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  Config
		want []string
	}{
		{"defaults", Config{}, nil},
		{"off where that is possible", Config{History: -1, PingInterval: -1, WriteTimeout: -1, SendBuffer: -1, LoopTimeout: -1}, nil},
		{"sizes", Config{MaxMessage: 64<<20 + 1, SendBuffer: 1 << 10}, []string{
			"MaxMessage 67108865B is too large: messages are encoded in one piece; use at most 64MiB",
			"SendBuffer 1KiB is too small for TCP to work well: use at least 4KiB",
			"ChannelBuffer 256KiB cannot hold two messages of MaxMessage 67108865B: use at least 134219778B",
			"MaxPending 256KiB cannot hold the reply to a message of MaxMessage 67108865B: use at least 67141633B"}},
		{"small sizes", Config{MaxMessage: 100}, []string{
			"MaxMessage 100B is too small: use at least 125B, the size of a control frame"}},
		{"buffers", Config{ChannelBuffer: 2 << 30, MaxPending: 64 << 10}, []string{
			"ChannelBuffer 2GiB is too large: use at most 1GiB",
			"MaxPending 64KiB cannot hold the reply to a message of MaxMessage 64KiB: use at least 96KiB",
			"MaxBuffered 512MiB cannot hold a few channels of ChannelBuffer 2GiB: use at least 16GiB"}},
		{"history", Config{HistoryBytes: 1000, History: 2 << 20, HistoryTTL: time.Millisecond}, []string{
			"History 2097152 is too large: use at most 1048576",
			"HistoryTTL 1ms is too short: timeouts are checked once a second; use at least 1s",
			"HistoryBytes 1000B is too small: use at least 1KiB, or History off"}},
		{"slots", Config{MaxHandshakes: 1 << 40}, []string{"MaxHandshakes 1099511627776 is too large: use at most 100000"}},
		{"a stuck loop", Config{LoopTimeout: 10 * time.Second}, []string{
			"LoopTimeout 10s is too short: the process must run long enough to log a stuck loop's stack, which happens after 10 s; use at least 11s, or off"}},
		{"origins", Config{AllowedOrigins: []string{"https://a.example/", "b.example"}}, []string{
			`AllowedOrigins: "https://a.example/" ends in a slash, which a browser never sends; write "https://a.example"`,
			`AllowedOrigins: "b.example" has no scheme, and http and https are different origins; write, for example, "https://b.example"`}},
		{"braces in a value", Config{WSPaths: []string{"{MaxMessage}"}, AllowedOrigins: []string{"{Raw}"}}, []string{
			`WSPaths "{MaxMessage}" must be a plain path such as /socket`,
			`AllowedOrigins: "{Raw}" has no scheme, and http and https are different origins; write, for example, "https://{Raw}"`}},
		{"paths", Config{WSPaths: []string{"/connection", "/echo", "/sse/", "/socket", "/ws", "/connection/websocket/x", "/x{y"}}, []string{
			`WSPaths "/x{y" must be a plain path such as /socket`,
			`WSPaths "/connection/{channel}" is served already: by another protocol, or as SSE; use another path`,
			`WSPaths "/echo" is served already: by another protocol, or as SSE; use another path`,
			`WSPaths "/sse/{channel}" is served already: by another protocol, or as SSE; use another path`}},
		{"rates", Config{MessageRate: 2_000_000, JoinRate: 2_000_000, AcceptRate: -1, ChannelRate: -1}, []string{
			"MessageRate 2000000 is too large: use at most 1000000, or off",
			"JoinRate 2000000 is too large: use at most 1000000, or off"}},
		{"name", Config{Name: "a\nb{MaxMessage}"}, []string{`Name "a\nb{MaxMessage}" must be at most 255 bytes of printable text`}},
		{"long name", Config{Name: strings.Repeat("x", 256)}, []string{
			`Name "` + strings.Repeat("x", 255) + `" must be at most 255 bytes of printable text`}},
		{"hooks", Config{Insecure: true, Hooks: &hook.Set{RPC: hook.Func[*hook.RPCRequest, hook.RPCResult](nil, hook.Options{})}, Namespaces: selecting(t)}, []string{
			"Insecure true has no effect on hooks: every client may do everything; use hooks, or Insecure",
			`Namespaces "" selects the subscribe hook "default", which does not exist: configure that hook, or remove subscribe_proxy_enabled`,
			`Namespaces "chat" selects the publish hook "moderation", which does not exist: configure that hook, or remove publish_proxy_enabled`}},
		{"greeting", Config{Greeting: strings.Repeat("x", 70_000)}, []string{
			"Greeting has 70000 bytes, more than MaxMessage 64KiB: use a shorter one"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			if err := tt.cfg.Validate(); err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestValidateReturnsTypedFaults(t *testing.T) {
	var faults Faults
	if err := (Config{MaxMessage: 100, MaxPending: 1}).Validate(); !errors.As(err, &faults) {
		t.Fatalf("%T is not Faults", err)
	}
	want := Faults{
		{Field: "MaxMessage", Value: "100B", Why: "is too small", Fix: "use at least 125B, the size of a control frame"},
		{Field: "MaxPending", Value: "1B", Why: "cannot hold the reply to a message of {MaxMessage} 100B", Fix: "use at least 32868B"},
	}
	if diff := cmp.Diff(want, faults); diff != "" {
		t.Error(diff)
	}
}

// A program that embeds the gateway has no flags.
func TestTextsNameNoFlags(t *testing.T) {
	flag := regexp.MustCompile(`(^|[^-])--[a-z]`)
	err := filepath.WalkDir(".", func(name string, _ fs.DirEntry, err error) error {
		if name == filepath.Join("hook", "config") {
			return fs.SkipDir // it makes hooks of flags, which programs need not
		}
		if err != nil || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return err
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if text, ok := n.(*ast.BasicLit); ok && text.Kind == token.STRING && flag.MatchString(text.Value) {
				t.Errorf("%v: %s names a flag: name a field of Config", set.Position(text.Pos()), text.Value)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDefaultLimitsOfAnAddressAreNotForThisMachine(t *testing.T) {
	t.Parallel()
	s := start(t, Config{PingInterval: -1})
	for range automatic.MaxPerAddress + 10 {
		clienttest.Dial(t, s, "/ws/x")
	}
	table := admit.New(new(Config).edge().Limits)
	elsewhere, now := netip.MustParseAddr("198.51.100.1"), int64(1000)
	for i := range automatic.MaxPerAddress + 1 {
		_, verdict := table.Enter(elsewhere, now)
		want := admit.Admitted
		if i == automatic.MaxPerAddress {
			want = admit.AddressOpen
		}
		if verdict != want {
			t.Fatalf("connection %d: %v, want %v", i, verdict, want)
		}
		now += 1000 / int64(automatic.AddressRate)
	}
	last := admit.Admitted
	table = admit.New(new(Config).edge().Limits)
	for range 5*automatic.AddressRate + 1 {
		_, last = table.Enter(elsewhere, now)
	}
	if last != admit.AddressRate {
		t.Errorf("more than the burst at once: %v", last)
	}
}

func TestEdgeIsConfiguredByTheServersSettings(t *testing.T) {
	t.Parallel()
	log, proxies := slog.New(slog.DiscardHandler), []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	cfg := Config{MaxConnections: 7, MaxHandshakes: 8, HandshakeTimeout: time.Minute, MaxPerAddress: 3, AddressRate: 4, AcceptRate: 5, Refuse: RefuseClose,
		TrustedProxies: proxies, ProxyProtocol: proxies[:0:0], SendBuffer: 9, NotsentLowat: 10, UserTimeout: time.Hour, Logger: log}
	want := edge.Config{MaxHandshakes: 8, HandshakeTimeout: time.Minute,
		Live:         edge.Live{MaxConnections: 7, Limits: admit.Limits{Open: 3, Rate: 4, Burst: 20, TotalRate: 5, LoopbackOpen: true, LoopbackRate: true}},
		CloseRefused: true, TrustedProxies: proxies, ProxyProtocol: proxies[:0:0],
		Socket: poller.Options{SendBuffer: 9, NotsentLowat: 10, UserTimeout: time.Hour, NoDelay: true}, Logger: log}
	if got := cfg.edge(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v,\nwant %+v", got, want)
	}

	s := start(t, Config{Subprotocols: []string{"chat"}, AllowedOrigins: []string{"https://app.example.com"}, TrustedProxies: proxies,
		MaxPerAddress: 1, AddressRate: -1, Refuse: RefuseClose, Raw: RawPublish})
	fields := []string{"Origin: https://app.example.com", "Sec-WebSocket-Protocol: chat", "X-Forwarded-For: 203.0.113.5"}
	c := clienttest.Connect(t, s)
	if h := c.Upgrade("/ws/x", fields...); h.Get("Sec-WebSocket-Protocol") != "chat" {
		t.Errorf("the upgrade's header is %v", h)
	}
	c.Send(clienttest.Text("hello"))
	c.WantText("it may publish", "hello")
	if rows := s.rows(""); len(rows) != 1 || rows[0].Address != "203.0.113.5" {
		t.Errorf("the inspector shows %+v", rows)
	}
	clienttest.Dial(t, s, "/ws/x", fields...).WantClose("its address has one", 1013)
	if _, status, _ := clienttest.Try(t, s, "Origin: https://evil.example.com"); status != http.StatusForbidden {
		t.Errorf("another origin: %d", status)
	}
	page := clienttest.Connect(t, s)
	page.Write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if a := page.WantStatus("a browser", http.StatusOK); !strings.Contains(a.Body, "WebSocket") {
		t.Errorf("a browser is shown %q", a.Body)
	}

	s = start(t, Config{ProxyProtocol: proxies, MaxConnections: 1})
	c = clienttest.Proxied(t, s, "PROXY TCP4 203.0.113.5 127.0.0.1 1234 80\r\n", false)
	c.Upgrade("/ws/x")
	again := clienttest.Proxied(t, s, "PROXY TCP4 203.0.113.6 127.0.0.1 1234 80\r\n", false)
	again.Write(clienttest.UpgradeTo("/ws/x"))
	again.WantStatus("there is one", http.StatusServiceUnavailable)
	c.Send(clienttest.Text("hello"))
	c.WantClose("clients of a proxy may not publish by default", 1008)
}
