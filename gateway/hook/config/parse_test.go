package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"sluice/gateway/hook"
	"sluice/gateway/hook/proxy"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const everything = `{
  "client": {"proxy": {
    "connect": {"enabled": true, "endpoint": "http://127.0.0.1:3000/connect", "timeout": "2s", "http_headers": ["Cookie", "X-Forwarded-For"],
      "emulated_headers": ["Authorization"], "binary_encoding": true, "singleflight_headers": ["cookie"],
      "http": {"static_headers": {"X-Key": "secret"}, "status_to_code_transforms": [
        {"status_code": 429, "to_error": {"code": 429, "message": "slow down", "temporary": true}},
        {"status_code": 403, "to_disconnect": {"code": 4503, "reason": "no"}}]}},
    "refresh": {"enabled": false, "endpoint": "http://127.0.0.1:3000/refresh"}}},
  "channel": {"proxy": {
    "subscribe": {"endpoint": "http://127.0.0.1:3000/subscribe", "include_connection_meta": true, "cache": "10s", "max_in_flight": 5, "queue_timeout": "3s"},
    "publish": {"endpoint": "http://127.0.0.1:3000/publish"},
    "sub_refresh": {"endpoint": "http://127.0.0.1:3000/sub_refresh"}}},
  "rpc": {"proxy": {"endpoint": "http://127.0.0.1:3000/rpc"}, "namespace_boundary": ".", "without_namespace": {"proxy_enabled": true},
    "namespaces": [{"name": "quote", "proxy_enabled": true, "proxy_name": "chat"}, {"name": "off"}]},
  "proxies": [{"name": "chat", "endpoint": "https://chat.example/hook", "http": {"tls": {"enabled": true, "server_name": "chat"}}}]
}`

func TestAFileIsReadWholly(t *testing.T) {
	got, err := Parse([]byte("\n"+everything), nil)
	if err != nil {
		t.Fatal(err)
	}
	def := func(where, path string) *Hook {
		return &Hook{where, proxy.Config{Name: "default", Endpoint: "http://127.0.0.1:3000/" + path}}
	}
	want := &Config{
		Connect:   def("client.proxy.connect", "connect"),
		Subscribe: def("channel.proxy.subscribe", "subscribe"), Publish: def("channel.proxy.publish", "publish"),
		SubRefresh: def("channel.proxy.sub_refresh", "sub_refresh"), RPC: def("rpc.proxy", "rpc"),
		Named: []*Hook{{"proxies[0]", proxy.Config{Name: "chat", Endpoint: "https://chat.example/hook", TLS: &tls.Config{MinVersion: tls.VersionTLS12, ServerName: "chat"}}}},
		Methods: Methods{Boundary: ".", Without: Choice{Enabled: true},
			Namespaces: []MethodNamespace{{"quote", Choice{true, "chat"}}, {"off", Choice{}}}},
	}
	c := &want.Connect.Config
	c.Timeout, c.Headers, c.EmulatedHeaders, c.Binary = 2*time.Second, []string{"Cookie", "X-Forwarded-For"}, []string{"Authorization"}, true
	c.SharedBy, c.StaticHeaders = []string{"cookie"}, map[string]string{"X-Key": "secret"}
	c.Transforms = []proxy.Transform{{Status: 429, Error: &hook.Error{Code: 429, Message: "slow down", Temporary: true}},
		{Status: 403, Disconnect: &hook.Disconnect{Code: 4503, Reason: "no"}}}
	s := &want.Subscribe.Config
	s.Meta, s.Cache, s.InFlight, s.Wait = true, 10*time.Second, 5, 3*time.Second
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(proxy.Config{}, tls.Config{})); diff != "" {
		t.Error(diff)
	}
	requests, emulated := got.Headers()
	if diff := cmp.Diff([][]string{{"Cookie", "X-Forwarded-For"}, {"Authorization"}}, [][]string{requests, emulated}); diff != "" {
		t.Error(diff)
	}
	if empty, err := Parse([]byte(` {} `), nil); err != nil || !empty.Empty() || got.Empty() {
		t.Errorf("an empty file: %v", err)
	}
}

// in puts keys into the hook for subscriptions.
func in(keys string) string {
	return `{"channel": {"proxy": {"subscribe": {"endpoint": "https://h", ` + keys + `}}}}`
}

// What is wrong with files: each fault is a line that begins with the path of the key.
func TestFaultsOfFiles(t *testing.T) {
	const at = "channel.proxy.subscribe."
	long := strings.Repeat("x", 200)
	for _, c := range []struct {
		file string
		want []string // the lines, by their beginnings
	}{
		{``, []string{`the file is empty; write at least {}`}},
		{` `, []string{`the file is empty`}},
		{"{\n  \"client\": }", []string{`line 2, column 13: invalid JSON: invalid character '}'`}},
		{`{} {}`, []string{`line 1, column 4: invalid JSON`}},
		{`[]`, []string{`it is an array; write an object, {...}`}},
		{`{"clients": {}, "token": 1, "clients": 2}`, []string{`clients: the key is unknown: did you mean "client"?`, `token: the key is unknown; remove it`, `clients: it appears more than once`}},
		{`{"client": {"token": {}, "proxy": null}}`, []string{`client.token: the key is unknown; remove it`, `client.proxy: it is null; write an object`}},
		{`{"client": {"proxy": {"connect": {}}}}`, []string{`client.proxy.connect.endpoint: there is no endpoint`}},
		{`{"client": {"proxy": {"connect": {"endpoint": "http://h"}}}}`, []string{`client.proxy.connect: it has no effect without enabled`}},
		{`{"client": {"proxy": {"refresh": {"enabled": "true", "endpoint": "http://h"}}}}`, []string{`client.proxy.refresh.enabled: it is a string; write true or false, without quotes`}},
		{`{"client": {"allow_anonymous_connect_without_token": 1, "subscribe_to_user_personal_channel": {}}}`, []string{
			`client.allow_anonymous_connect_without_token: it is a number`, `client.subscribe_to_user_personal_channel: belongs in the file of --namespaces`}},
		{`{"channel": {"namespaces": [], "without_namespace": {}, "proxy": {"subscribe_stream": {}, "subcribe": {}}}}`, []string{
			`channel.namespaces: belongs in the file of --namespaces`, `channel.without_namespace: belongs`,
			`channel.proxy.subscribe_stream: not supported: `, `channel.proxy.subcribe: the key is unknown: did you mean "subscribe"?`}},
		{`{"channel": {"proxy": {"subscribe": {"endpoint": "grpc://h:1"}}}}`, []string{at + `endpoint: a gRPC endpoint is not supported`}},
		{`{"channel": {"proxy": {"subscribe": {"endpoint": 7}}}}`, []string{at + `endpoint: it is a number; write a string`}},
		{`{"channel": {"proxy": {"subscribe": {"endpoint": "http://u:secret@169.254.169.254"}}}}`, []string{at + `endpoint: 169.254.169.254 is an address`}},
		{`{"channel": {"proxy": {"subscribe": {"endpoint": "http://h", "http": {"tls": {"enabled": true}}}}}}`, []string{at + `http.tls: it has no effect on an http:// endpoint`}},
		{in(`"timeout": 1000`), []string{at + `timeout: a number has no unit; write a string with a unit, for example "1s"`}},
		{in(`"timeout": "0s", "queue_timeout": "2m", "cache": "-1s"`), []string{at + `timeout: 0s is not positive`, at + `queue_timeout: 2m0s is more than 1m0s`, at + `cache: -1s is not between 0 and 24h`}},
		{in(`"timeout": "soon", "queue_timeout": true`), []string{at + `timeout: "soon" is not a duration`, at + `queue_timeout: it is a boolean`}},
		{in(`"max_in_flight": 0, "binary_encoding": 1, "include_connection_meta": null`), []string{at + `max_in_flight: write an integer from 1 to 10000`, at + `binary_encoding: it is a number`, at + `include_connection_meta: it is null`}},
		{in(`"max_in_flight": 1.5`), []string{at + `max_in_flight: write an integer`}},
		{in(`"http_headers": "Cookie", "emulated_headers": [1, "a b", "X", "x"]`), []string{at + `http_headers: it is a string; write an array`,
			at + `emulated_headers[0]: it is a number`, at + `emulated_headers: "" is not a name`, at + `emulated_headers: "a b" is not a name of a header`, at + `emulated_headers: "x" is there twice`}},
		{in(`"http_headers": ["*"]`), []string{at + `http_headers: "*" does not stand for all headers`}},
		{in(`"http_headers": ["content-type", "Host"], "emulated_headers": ["CONNECTION"]`), []string{at + `http_headers: "content-type" is a header of the call itself`,
			at + `http_headers: "Host" is`, at + `emulated_headers: "CONNECTION" is`}},
		{in(`"http_headers": ["Cookie"], "singleflight_headers": ["cookie", "X-User"]`), []string{at + `singleflight_headers[1]: "X-User" is in neither http_headers nor emulated_headers`}},
		{in(`"grpc": {}, "grpc_metadata": [], "tls": {}`), []string{at + `grpc: not supported: hooks are called over HTTP`, at + `grpc_metadata: not supported`, at + `tls: the key is unknown`}},
		{in(`"http": {"static_headers": {"X-A": 1, "a b": "c", "X-B": "secret\n", "content-type": "a"}}`), []string{at + `http.static_headers.X-A: it is a number`,
			at + `http.static_headers.X-B: the value has a character`, at + `http.static_headers: "a b" is not`, at + `http.static_headers: "content-type" is a header of the call`}},
		{in(`"http": {"static_headers": [], "status_to_code_transforms": {}}`), []string{at + `http.static_headers: it is an array`, at + `http.status_to_code_transforms: it is an object`}},
		{in(`"http": {"status_to_code_transforms": [{}, {"status_code": 200, "to_error": {"code": 1}}, {"status_code": 429, "to_error": {"code": 1}, "to_disconnect": {"code": 4000}},
			{"status_code": 42, "to_error": {}}, {"status_code": 500, "to_disconnect": {"code": 1005, "reason": "é"}}, {"status_code": 500, "to_disconnect": {"reason": "` + long + `"}}]}`), []string{
			at + `http.status_to_code_transforms[0]: it must have exactly one of`, at + `http.status_to_code_transforms[0].status_code: it is missing`,
			at + `http.status_to_code_transforms[1].status_code: 200 is an answer`,
			at + `http.status_to_code_transforms[2]: it must have exactly one of`,
			at + `http.status_to_code_transforms[3].status_code: write an integer from 100 to 599`, at + `http.status_to_code_transforms[3].to_error.code: it is missing`,
			at + `http.status_to_code_transforms[4].to_disconnect.reason: it must be ASCII`, at + `http.status_to_code_transforms[4].to_disconnect.code: 1005 is not a code`,
			at + `http.status_to_code_transforms[5].to_disconnect.reason: it must be ASCII and at most 123`, at + `http.status_to_code_transforms[5].to_disconnect.code: it is missing`}},
		{`{"rpc": {"proxy_enabled": true, "ping": {}, "namespace_boundary": "", "without_namespace": {"proxy_name": "chat"},
			"namespaces": [{"name": "a"}, {"name": "ab", "proxy_name": "x"}, {"name": "ab"}, {}, {"name": "a:b"}]}}`, []string{
			`rpc.proxy_enabled: the key is unknown`, `rpc.ping: not supported`, `rpc.namespace_boundary: it is empty`, `rpc.without_namespace.proxy_name: it has no effect without proxy_enabled`,
			`rpc.namespaces[0].name: a name must consist of two or more of`, `rpc.namespaces[1].proxy_name: it has no effect`, `rpc.namespaces[2].name: "ab" is a name that another one has`,
			`rpc.namespaces[3].name: a name must`, `rpc.namespaces[4].name: a name must`}},
		{`{"proxies": {}}`, []string{`proxies: it is an object; write an array`}},
		{`{"proxies": [{"name": "default", "endpoint": "http://h"}, {"name": "ab"}, {"endpoint": "http://h"}, 7, {"name": "ab", "endpoint": "http://h", "enabled": true}]}`, []string{
			`proxies[0].name: "default" is the name of the hooks in channel.proxy and rpc.proxy`, `proxies[1].endpoint: there is no endpoint`, `proxies[2].name: a name must`,
			`proxies[3]: it is a number`, `proxies[3].name: a name must`, `proxies[4].enabled: the key is unknown`, `proxies[4].name: "ab" is a name that another one has`}},
		{"{\"a.b\\n\": 1, \"" + long + "\": 2}", []string{`"a.b\n": the key is unknown`, `"` + long[:64] + `...": the key is unknown`}},
	} {
		got, err := Parse([]byte(c.file), os.ReadFile)
		if err == nil || got != nil {
			t.Errorf("%s: accepted", c.file)
			continue
		}
		lines := strings.Split(err.Error(), "\n")
		if len(lines) != len(c.want) {
			t.Errorf("%s:\n%s\nwant %q", c.file, err, c.want)
			continue
		}
		for i, want := range c.want {
			if !strings.HasPrefix(lines[i], want) {
				t.Errorf("%s:\n%s\nwant %s", c.file, lines[i], want)
			}
			if strings.Contains(lines[i], "secret") {
				t.Errorf("a secret in %s", lines[i])
			}
		}
	}
}

// pair returns a certificate and its key in PEM.
func pair(t *testing.T) (certificate, key string) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

// Certificates are PEM, PEM in base64, or files.
func TestTLSOfAHook(t *testing.T) {
	certificate, key := pair(t)
	files := map[string]string{"cert.pem": certificate, "key.pem": key, "other": "hello"}
	read := func(name string) ([]byte, error) {
		if s, ok := files[name]; ok {
			return []byte(s), nil
		}
		return nil, os.ErrNotExist
	}
	_, otherKey := pair(t)
	for _, c := range []struct {
		cert, key, ca string
		want          string // the error
	}{
		{"cert.pem", "key.pem", "cert.pem", ""},
		{certificate, key, certificate, ""},
		{base64.StdEncoding.EncodeToString([]byte(certificate)), base64.StdEncoding.EncodeToString([]byte(key)), base64.StdEncoding.EncodeToString([]byte(certificate)), ""},
		{"", "", "cert.pem", ""},
		{"cert.pem", "", "", ".http.tls: cert_pem and key_pem belong together"},
		{"none.pem", "key.pem", "none.pem", ".http.tls.server_ca_pem: it is neither PEM"},
		{"none.pem", "key.pem", "", ".http.tls.cert_pem: it is neither PEM"},
		{"cert.pem", "other", "", ".http.tls.key_pem: the file has nothing in PEM format"},
		{"cert.pem", otherKey, "", ".http.tls: cert_pem and key_pem: "},
		{"", "", key, ".http.tls.server_ca_pem: it has no certificate"},
	} {
		quote := func(s string) string {
			b, _ := json.Marshal(s)
			return string(b)
		}
		got, err := Parse([]byte(in(`"http": {"tls": {"enabled": true, "insecure_skip_verify": false, "cert_pem": `+quote(c.cert)+`, "key_pem": `+quote(c.key)+`, "server_ca_pem": `+quote(c.ca)+`}}`)), read)
		switch {
		case c.want == "" && err != nil:
			t.Error(err)
		case c.want == "":
			if tls := got.Subscribe.TLS; len(tls.Certificates) != min(len(c.cert), 1) || tls.RootCAs == nil {
				t.Errorf("%q: %d certificates", c.cert, len(tls.Certificates))
			}
		case err == nil || !strings.Contains(err.Error(), c.want):
			t.Errorf("%v, want %s", err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), key[30:60]) {
			t.Error("the key is in the error")
		}
	}
	for _, keys := range []string{`"server_name": "x"`, `"enabled": false, "server_name": "x"`} {
		if _, err := Parse([]byte(in(`"http": {"tls": {`+keys+`}}`)), read); err == nil || !strings.Contains(err.Error(), "no effect without enabled") {
			t.Error(err)
		}
	}
	if _, err := Parse([]byte(in(`"http": {"tls": {"enabled": true, "client_ca_pem": "x"}}`)), read); err == nil || !strings.Contains(err.Error(), "tls.client_ca_pem: not supported") {
		t.Error(err)
	}
}

// Whatever is in a file, it is refused with words, or can be built.
func FuzzParse(f *testing.F) {
	f.Add([]byte(everything))
	f.Add([]byte(in(`"timeout": 1`)))
	f.Add([]byte(`{"proxies":[{"name":"ab","endpoint":"http://h","http_headers":["A"]}],"rpc":{"namespaces":[{"name":"ab"}]}}`))
	f.Add([]byte(`{"\u0000":{},"client":{"proxy":{"connect":{"enabled":true,"endpoint":"http://[::1%eth0]:1"}}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data, func(string) ([]byte, error) { return nil, os.ErrNotExist })
		if err != nil {
			if c != nil || err.Error() == "" {
				t.Fatalf("%v, %q", c, err)
			}
			return
		}
		if !json.Valid(data) {
			t.Fatal("accepted what is not JSON")
		}
		if c.Check(Surroundings{}) != nil {
			return
		}
		s, err := c.Build(nil, Bounds{})
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
	})
}
