package deploy_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	natsserver "github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"

	"sluice/bench/child"
)

const (
	nodesFile    = "compose.nodes.yaml"
	natsFile     = "kubernetes/nats/nats.conf"
	balancerFile = "proxy/haproxy.nodes.cfg"

	// The gateways' two keys, which `nk -gen user -pubout` has made for this test.
	natsSeed = "SUAG3FQBFHXNO5UB33DS6SQJGLN4SM46DXTPD3ZNFQ2LF7Y6IWDCB7XQTE"
	natsUser = "UBE3WUMJYNJFFAWLGMVA4SPPNVM37X6QQPLN4HYPKS3BI5JEVNPMBB3A"
)

// The module's NATS server is run by this test binary, started once more with natsEnv, which names
// the configuration.

const natsEnv = "DEPLOY_TEST_NATS"

// becomeNATSServer takes the place of a test run where the variable says so.
func becomeNATSServer() {
	config := os.Getenv(natsEnv)
	if config == "" {
		return
	}
	opts, err := natsserver.ProcessConfigFile(config)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	srv, err := natsserver.NewServer(opts)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	srv.ConfigureLogger()
	srv.Start()
	srv.WaitForShutdown()
	os.Exit(0)
}

// natsProgram runs a server with a configuration.
type natsProgram struct {
	command func(t *testing.T, config string) *exec.Cmd
	secure  bool // with the lines for TLS, which are commented out in the file
}

// natsPrograms are the oldest server that is supported and the newest.
var natsPrograms = map[string]natsProgram{
	"Debian": {command: func(t *testing.T, config string) *exec.Cmd {
		return exec.Command(tool(t, "nats-server", "nats-server"), "--config", config)
	}},
	"module": {secure: true, command: func(_ *testing.T, config string) *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = environment(natsEnv + "=" + config)
		return cmd
	}},
}

// writeCertificate writes a certificate for 127.0.0.1, which is its own CA, and its key. It is for servers
// and for clients: between two servers, either can be the one that connects.
func writeCertificate(t *testing.T) (dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
	dir = t.TempDir()
	for name, data := range map[string][]byte{"tls.crt": public, "ca.crt": public, "tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// project is the compose project of several nodes, as far as it is tried here.
type project struct {
	Services map[string]struct {
		Image       string
		Environment map[string]string
		Networks    struct{ Default struct{ Aliases []string } }
	}
}

func composed(t *testing.T, file string) (p project) {
	t.Helper()
	python := tool(t, "python3", "python3")
	if exec.Command(python, "-c", "import yaml").Run() != nil {
		t.Skip("no yaml for Python on this machine: apt-get install python3-yaml")
	}
	text := command(t, python, "-c", "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)", file)
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// named returns the names of services that begin so.
func (p project) named(prefix string) (names []string) {
	for name := range p.Services {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// cluster is the project as processes.
type cluster struct {
	servers  []*child.Process
	gateways []*child.Process
	balancer string
	urls     map[string]string // of the servers, by those of the project
	ca       string            // "" without TLS
}

// startServers starts the NATS servers with the shipped file.
func (c *cluster) startServers(t *testing.T, p project, program natsProgram) {
	t.Helper()
	names, text := p.named("nats-"), shipped(t, natsFile)
	ports := map[string]string{}
	c.urls = map[string]string{}
	scheme := "nats"
	if program.secure {
		dir := writeCertificate(t)
		scheme, c.ca = "tls", filepath.Join(dir, "ca.crt")
		commented := regexp.MustCompile(`(?m)^( *)#( *(?:tls \{|\w+_file: .*|\}))$`)
		if n := len(commented.FindAllString(text, -1)); n != 9 {
			t.Fatalf("the servers' file has %d lines for TLS", n)
		}
		text = substitute(t, commented.ReplaceAllString(text, "$1$2"), "/etc/nats/tls/", dir+"/")
	}
	for _, name := range names {
		alias := p.Services[name].Networks.Default.Aliases[0]
		ports[name], ports[name+" route"] = freePort(t), freePort(t)
		c.urls["nats://"+alias+":4222"] = scheme + "://127.0.0.1:" + ports[name]
		text = substitute(t, text, `"nats://`+alias+`:6222"`, `"nats://127.0.0.1:`+ports[name+" route"]+`"`)
	}
	// A user beside the gateways', who may do everything.
	text = substitute(t, text, "    users: [\n", "    users: [\n      { user: tap, password: tap }\n", "11GiB", "1GiB")
	for _, name := range names {
		dir := t.TempDir()
		here := substitute(t, text, "0.0.0.0:4222", "127.0.0.1:"+ports[name], "0.0.0.0:6222", "127.0.0.1:"+ports[name+" route"],
			"0.0.0.0:8222", "127.0.0.1:-1", `"/data"`, `"`+dir+`"`, "/run/nats/", dir+"/")
		cmd := program.command(t, write(t, "nats.conf", here))
		if cmd.Env == nil {
			cmd.Env = environment()
		}
		for variable, value := range p.Services[name].Environment {
			if strings.HasPrefix(value, "${NATS_GATEWAY_USER:?") {
				value = natsUser
			}
			cmd.Env = append(cmd.Env, variable+"="+value)
		}
		c.servers = append(c.servers, run(t, cmd))
	}
	for i, s := range c.servers {
		waitFor(t, names[i], func() bool {
			if s.HasEnded() {
				t.Fatalf("%s has ended:\n%s", names[i], &s.Log)
			}
			return strings.Contains(s.Log.String(), "Server is ready")
		})
	}
}

// gateway returns a command with the variables of a gateway's service.
func (c *cluster) gateway(t *testing.T, p project, name, listen, seed, key string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(sluice(t), args...)
	cmd.Env = environment("SLUICE_LISTEN="+listen, "SLUICE_SHUTDOWN_TIMEOUT=5s", "SLUICE_DRAIN_DURATION=off", "SLUICE_CLOSE_TIMEOUT=1s")
	for variable, value := range p.Services[name].Environment {
		switch variable {
		case "SLUICE_NATS_URL":
			for theirs, here := range c.urls {
				value = substitute(t, value, theirs, here)
			}
		case "SLUICE_NATS_NKEY":
			value = seed
		case "SLUICE_API_KEY_FILE":
			value = key
		case "SLUICE_TRUSTED_PROXIES":
			value = "127.0.0.1"
		case "SLUICE_INTERNAL_LISTEN":
			value = "127.0.0.1:0"
		case "SLUICE_MAX_CONNECTIONS":
			value = "100" // as many descriptors as a test may have
		case "SLUICE_DATA_MAX":
			value = "512MiB"
		}
		cmd.Env = append(cmd.Env, variable+"="+value)
	}
	if c.ca != "" {
		cmd.Env = append(cmd.Env, "SLUICE_NATS_TLS_CA="+c.ca)
	}
	return cmd
}

// serves waits until a gateway's engine has answered, too.
func serves(t *testing.T, g *child.Process) {
	t.Helper()
	ready(t, g)
	waitFor(t, "the gateway's engine", func() bool {
		status, _, err := get("http://" + g.Internal + "/readyz")
		return err == nil && status == http.StatusOK
	})
}

const nodesKey = "0123456789abcdef0123456789abcdef"

// request sends a request to a gateway's internal listener, with the key.
func request(t *testing.T, g *child.Process, path, body string) (text string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://"+g.Internal+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-API-Key", nodesKey)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s %v", path, resp.Status, answer, err)
	}
	return string(answer)
}

// The compose project's gateways, servers and balancer are one channel space, with servers that let gateways do
// what NODES.md lists and nothing else.
func TestNodesOfTheProjectAreOneChannelSpace(t *testing.T) {
	t.Parallel()
	for name, program := range natsPrograms {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tryProject(t, program)
		})
	}
}

func tryProject(t *testing.T, program natsProgram) {
	haproxy := tool(t, "haproxy", "haproxy")
	p, c := composed(t, nodesFile), &cluster{}
	c.startServers(t, p, program)
	used := c.listen(t)

	names, seed, key := p.named("sluice-"), write(t, "seed", natsSeed+"\n"), write(t, "api-key", nodesKey+"\n")
	if len(names) != 3 || len(c.servers) != 3 {
		t.Fatalf("the project has the gateways %q and %d servers", names, len(c.servers))
	}
	config, listens := shipped(t, balancerFile), map[string]string{}
	for _, name := range names {
		listens[name] = "127.0.0.1:" + freePort(t)
		config = substitute(t, config, "server "+name+" "+name+":8000", "server "+name+" "+listens[name])
		c.gateways = append(c.gateways, run(t, c.gateway(t, p, name, listens[name], seed, key, "serve")))
	}
	for _, g := range c.gateways {
		serves(t, g)
	}
	c.balancer = "127.0.0.1:" + freePort(t)
	run(t, exec.Command(haproxy, "-db", "-f", write(t, "haproxy.cfg", substitute(t, config, "bind :8000", "bind "+c.balancer, "maxconn 300000", "maxconn 1000", "maxconn 100000", "maxconn 100"))))
	waitFor(t, "the balancer", func() bool {
		conn, err := net.Dial("tcp", c.balancer)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})

	// Each gateway has one of three clients, and all get what is published to any.
	var streams []<-chan string
	for range c.gateways {
		lines := events(t, c.balancer, "/sse/news")
		wantLine(t, lines, "id: ") // subscribed
		streams = append(streams, lines)
	}
	for i, g := range c.gateways {
		message := fmt.Sprintf("from %d", i)
		request(t, g, "/publish/news", message)
		for _, lines := range streams {
			wantLine(t, lines, "data: "+message)
		}
	}
	waitFor(t, "the list of nodes", func() bool {
		var info struct {
			Result struct{ Nodes []struct{ Name string } }
		}
		if err := json.Unmarshal([]byte(request(t, c.gateways[0], "/api/info", "{}")), &info); err != nil {
			t.Fatal(err)
		}
		var found []string
		for _, node := range info.Result.Nodes {
			found = append(found, node.Name)
		}
		slices.Sort(found)
		return cmp.Equal(names, found)
	})
	for _, name := range names {
		late := events(t, listens[name], "/sse/news?history=3")
		for i := range c.gateways {
			wantLine(t, late, fmt.Sprintf("data: from %d", i))
		}
	}
	check := c.gateway(t, p, names[0], "127.0.0.1:0", seed, key, "check")
	if out, err := check.CombinedOutput(); err != nil || strings.Contains(string(out), "servers that are known") {
		t.Errorf("sluice check: %v\n%s", err, out)
	}
	// A removed history, and a changed limit.
	request(t, c.gateways[0], "/api/history_remove", `{"channel":"news"}`)
	if err := c.gateways[2].Stop(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	request(t, c.gateways[0], "/publish/old", "kept")
	c.gateways[2] = run(t, c.gateway(t, p, names[2], listens[names[2]], seed, key, "serve", "--history", "200"))
	serves(t, c.gateways[2])
	wantLine(t, events(t, listens[names[2]], "/sse/old?history=1"), "data: kept")

	for _, g := range append(c.servers, c.gateways...) {
		if line := regexp.MustCompile(`(?i).*violation.*`).FindString(g.Log.String()); line != "" {
			t.Errorf("not permitted: %s", line)
		}
	}
	allowed := permissions(t)
	for _, pattern := range allowed["publish"] {
		waitFor(t, "a message to "+pattern, func() bool { return used(pattern) })
	}
}

// listen subscribes to all that gateways send, and returns a function that reports whether something
// was sent to a subject of a pattern.
func (c *cluster) listen(t *testing.T) (used func(pattern string) bool) {
	t.Helper()
	var all []string
	for _, url := range c.urls {
		all = append(all, url)
	}
	options := []natsgo.Option{natsgo.UserInfo("tap", "tap"), natsgo.Timeout(patience), natsgo.RetryOnFailedConnect(true)}
	if c.ca != "" {
		options = append(options, natsgo.RootCAs(c.ca))
	}
	tap, err := natsgo.Connect(strings.Join(all, ","), options...)
	if err != nil {
		t.Fatal(err)
	}
	subjects := make(chan string, 10_000)
	if _, err := tap.Subscribe(">", func(m *natsgo.Msg) {
		select {
		case subjects <- m.Subject:
		default: // more than enough
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := tap.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tap.Close)
	seen := map[string]bool{}
	return func(pattern string) bool {
		for len(subjects) > 0 {
			seen[<-subjects] = true
		}
		for subject := range seen {
			if natsserver.SubjectsCollide(subject, pattern) {
				return true
			}
		}
		return false
	}
}

// permissions returns what the shipped file of the servers allows gateways.
func permissions(t *testing.T) map[string][]string {
	t.Helper()
	text := substitute(t, shipped(t, natsFile), "$NATS_GATEWAY_USER", natsUser, "$NATS_SERVER_NAME", "nats-0")
	opts, err := natsserver.ProcessConfigFile(write(t, "nats.conf", text))
	if err != nil {
		t.Fatal(err)
	}
	if len(opts.Nkeys) != 1 || len(opts.Users) != 0 {
		t.Fatalf("%d nkeys and %d users", len(opts.Nkeys), len(opts.Users))
	}
	p := opts.Nkeys[0].Permissions
	return map[string][]string{"publish": p.Publish.Allow, "subscribe": p.Subscribe.Allow}
}

// The page lists what the servers' file allows.
func TestPermissionsOfThePageAreThoseOfTheServers(t *testing.T) {
	t.Parallel()
	want, got := permissions(t), map[string][]string{}
	for _, row := range rows(shipped(t, "NODES.md"), 3) {
		if row[0] == "publish" || row[0] == "subscribe" {
			got[row[0]] = append(got[row[0]], regexp.MustCompile("[^`, ]+").FindAllString(row[1], -1)...)
		}
	}
	for _, list := range []map[string][]string{want, got} {
		for _, subjects := range list {
			slices.Sort(subjects)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("permissions (-nats.conf +NODES.md):\n%s", diff)
	}
}
