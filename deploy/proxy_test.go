package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"sluice/bench/child"
)

// proxy is a program that stands in front of the gateway, with its shipped file.
type proxy struct {
	name, debianPackage, file string
	// idle is how the file says the time after which silence ends a connection; ""
	// where the program has no such time.
	idle string
	// change puts the places of the test into the file.
	change func(t *testing.T, text, port, upstream string) string
	// plain is the line that listens without TLS; secure those, commented out in
	// the file, that go in its place, both empty where TLS is on; cert and key are the
	// paths in there.
	plain, cert, key string
	secure           []string
	// redirects says that a server of its own redirects from HTTP to HTTPS.
	redirects bool
	// caps are the lines, commented out in the file, that bound the connections of one
	// address; cap is the end of one of them, with the bound.
	caps []string
	cap  string
	// args start the program in the foreground.
	args func(file string) []string
}

var proxies = []proxy{
	{ // beside other sites
		name: "nginx", debianPackage: "nginx-light", file: "proxy/nginx-site.conf", idle: "75s",
		change: func(t *testing.T, text, port, upstream string) string {
			dir := t.TempDir()
			site := onLoopback(t, text, letsencrypt, port, upstream)
			return "pid " + dir + "/nginx.pid;\nevents {}\nhttp {\n" + temporaryPaths(dir) + site + "}\n"
		},
		cert: letsencrypt + "fullchain.pem", key: letsencrypt + "privkey.pem", redirects: true,
		args: nginxInForeground,
	},
	{
		name: "nginx", debianPackage: "nginx-light", file: "proxy/nginx.conf", idle: "75s",
		change: func(t *testing.T, text, port, upstream string) string {
			dir := t.TempDir()
			text = onLoopback(t, text, "/etc/ssl/sluice/", port, upstream)
			return substitute(t, text, "/run/nginx.pid", dir+"/nginx.pid", "http {\n", "http {\n"+temporaryPaths(dir))
		},
		cert: "/etc/ssl/sluice/fullchain.pem", key: "/etc/ssl/sluice/key.pem", redirects: true,
		caps: []string{"limit_conn_zone ", "limit_conn "}, cap: "address 200",
		args: nginxInForeground,
	},
	{
		name: "haproxy", debianPackage: "haproxy", file: "proxy/haproxy.cfg", idle: "75s",
		change: func(t *testing.T, text, port, upstream string) string {
			// Two descriptors for each of 100,000 clients are more than a test may have.
			return substitute(t, text, "127.0.0.1:8000", upstream, "bind :80\n", "bind 127.0.0.1:"+port+"\n",
				"bind :443 ", "bind 127.0.0.1:"+port+" ", "maxconn 100000", "maxconn 1000")
		},
		plain: "bind :80\n", secure: []string{"bind :443 "}, cert: "/etc/ssl/sluice/both.pem",
		caps: []string{"stick-table ", "tcp-request connection track", "tcp-request connection reject"}, cap: "gt 200",
		args: func(file string) []string { return []string{"-db", "-f", file} },
	},
	{
		name: "caddy", debianPackage: "caddy", file: "proxy/Caddyfile",
		change: func(t *testing.T, text, port, upstream string) string {
			return substitute(t, text, "127.0.0.1:8000", upstream, "\n:80 {", "\nhttp://:"+port+" {\n\tbind 127.0.0.1")
		},
		args: func(file string) []string { return []string{"run", "--adapter", "caddyfile", "--config", file} },
	},
}

const letsencrypt = "/etc/letsencrypt/live/push.example.com/"

// onLoopback lets a file of nginx's listen at a port of 127.0.0.1, and the server that redirects at
// that of 127.0.0.2. Without a certificate of the test's, TLS is off.
func onLoopback(t *testing.T, text, certificates, port, upstream string) string {
	t.Helper()
	here := "listen 127.0.0.1:" + port + " ssl http2;"
	if strings.Contains(text, certificates) { // there is none here
		here = "listen 127.0.0.1:" + port + ";"
		text = substitute(t, text, "ssl_certificate ", "#ssl_certificate ", "ssl_certificate_key ", "#ssl_certificate_key ")
	}
	return substitute(t, text, "server 127.0.0.1:8000", "server "+upstream, "listen 80;", "listen 127.0.0.2:"+port+";", "listen [::]:80;", "",
		"listen [::]:443 ssl http2;", "", "listen 443 ssl http2;", here)
}

func nginxInForeground(file string) []string {
	return []string{"-c", file, "-e", "stderr", "-g", "daemon off;"}
}

// temporaryPaths are nginx's directories, which are else under /var/lib/nginx: that is root's.
func temporaryPaths(dir string) (lines string) {
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		lines += kind + "_temp_path " + dir + "/" + kind + ";\n"
	}
	return lines
}

// start runs the proxy in front of a gateway and returns its HOST:PORT. With idle it
// ends what is silent for so long.
func (p proxy) start(t *testing.T, g *child.Process, idle string) string {
	t.Helper()
	text := shipped(t, p.file)
	if p.idle != "" && idle != "" {
		text = substitute(t, text, p.idle, idle)
	}
	return p.startWith(t, g, text)
}

func (p proxy) startWith(t *testing.T, g *child.Process, text string) string {
	t.Helper()
	binary := tool(t, p.name, p.debianPackage)
	port := freePort(t)
	file := write(t, filepath.Base(p.file), p.change(t, text, port, g.Public))
	cmd := exec.Command(binary, p.args(file)...)
	cmd.Env = environment("HOME="+t.TempDir(), "XDG_DATA_HOME="+t.TempDir(), "XDG_CONFIG_HOME="+t.TempDir())
	process := run(t, cmd)
	address := "127.0.0.1:" + port
	waitFor(t, p.name+" to listen", func() bool {
		if process.HasEnded() {
			t.Fatalf("%s has ended:\n%s", p.name, &process.Log)
		}
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return address
}

// each runs a test for each proxy, side by side: they mostly wait.
func each(t *testing.T, f func(t *testing.T, p proxy)) {
	t.Parallel()
	for _, p := range proxies {
		t.Run(filepath.Base(p.file), func(t *testing.T) {
			t.Parallel()
			tool(t, p.name, p.debianPackage)
			f(t, p)
		})
	}
}

// connect upgrades a connection at a path, as a page of the given origin would that
// was served by host.
func connect(address, path, host, origin string) (net.Conn, error) {
	d := ws.Dialer{
		Timeout: patience,
		Host:    host,
		NetDial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		},
	}
	if origin != "" {
		d.Header = ws.HandshakeHeaderHTTP{"Origin": {origin}}
	}
	c, early, _, err := d.Dial(context.Background(), "ws://"+address+path)
	if err != nil {
		return nil, err
	}
	if early != nil {
		c.Close()
		return nil, errors.New("bytes came before anything was sent")
	}
	return c, nil
}

// echo sends a message to /echo and wants it back.
func echo(c net.Conn, message string) error {
	c.SetDeadline(time.Now().Add(patience)) // ignored: then reading fails
	if err := wsutil.WriteClientText(c, []byte(message)); err != nil {
		return err
	}
	got, err := wsutil.ReadServerText(c)
	if err == nil && string(got) != message {
		err = fmt.Errorf("got %q", got)
	}
	return err
}

func TestProxyPassesWebSocketOn(t *testing.T) {
	each(t, func(t *testing.T, p proxy) {
		address := p.start(t, serve(t), "")
		c, err := connect(address, "/echo", "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, message := range []string{"hello", strings.Repeat("x", 60<<10), "你好"} {
			if err := echo(c, message); err != nil {
				t.Fatalf("echo of %d bytes: %v", len(message), err)
			}
		}
	})
}

func TestProxyPassesHostOnSoThatOriginsAreJudged(t *testing.T) {
	each(t, func(t *testing.T, p proxy) {
		address := p.start(t, serve(t), "")
		c, err := connect(address, "/ws/news", "live.example.com", "http://live.example.com")
		if err != nil {
			t.Fatalf("the page's own host: %v", err)
		}
		c.Close()
		_, err = connect(address, "/ws/news", "live.example.com", "http://evil.example.net")
		if status := ws.StatusError(0); !errors.As(err, &status) || status != http.StatusForbidden {
			t.Fatalf("another site's page: %v, want 403", err)
		}
	})
}

func TestProxyLeavesInternalListenerOut(t *testing.T) {
	each(t, func(t *testing.T, p proxy) {
		address := p.start(t, serve(t), "")
		if status, _, err := get("http://" + address + "/healthz"); err != nil || status != http.StatusOK {
			t.Fatalf("/healthz: %d, %v, want 200", status, err)
		}
		for _, path := range []string{"/metrics", "/readyz", "/publish/news", "/debug/pprof/"} {
			if status, _, err := get("http://" + address + path); err != nil || status != http.StatusNotFound {
				t.Errorf("%s: %d, %v, want 404", path, status, err)
			}
		}
	})
}

// The lines for a cap of one address are in the files, commented out.
func TestProxyCapsConnectionsOfOneAddress(t *testing.T) {
	each(t, func(t *testing.T, p proxy) {
		if p.caps == nil {
			t.Skipf("%s has no lines for that", p.file)
		}
		text := shipped(t, p.file)
		for _, line := range p.caps {
			text = substitute(t, text, "#"+line, line)
		}
		text = substitute(t, text, p.cap, strings.Replace(p.cap, "200", "2", 1))
		address := p.startWith(t, serve(t), text)
		open := func() (net.Conn, error) { return connect(address, "/echo", "", "") }
		var first net.Conn
		waitFor(t, "a place", func() bool { // the first look at the port may count for a moment
			var err error
			first, err = open()
			return err == nil
		})
		defer first.Close()
		var second net.Conn
		waitFor(t, "a second place", func() bool {
			var err error
			second, err = open()
			return err == nil
		})
		if c, err := open(); err == nil {
			c.Close()
			t.Error("a third connection was let in")
		}
		second.Close() // ignored: the proxy sees it go
		waitFor(t, "the place to be free again", func() bool {
			c, err := open()
			if err == nil {
				c.Close()
			}
			return err == nil
		})
	})
}
