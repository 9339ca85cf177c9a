package web

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const patience = 30 * time.Second

// process is a visitors' process of a test's. It ends as a real one does: some time after Close, with
// a last line.
type process struct {
	commands *bufio.Reader // what it is sent
	lines    *io.PipeWriter
	closed   chan struct{}

	in   *io.PipeWriter
	out  *io.PipeReader
	once sync.Once
}

func newProcess() *process {
	p := &process{closed: make(chan struct{})}
	commands, in := io.Pipe()
	p.commands, p.in = bufio.NewReader(commands), in
	p.out, p.lines = io.Pipe()
	return p
}

func (p *process) Read(b []byte) (int, error)  { return p.out.Read(b) }
func (p *process) Write(b []byte) (int, error) { return p.in.Write(b) }
func (p *process) Close() error {
	p.once.Do(func() {
		close(p.closed)
		p.in.Close()
		go func() {
			io.WriteString(p.lines, "last\n")
			p.lines.Close()
		}()
	})
	return nil
}

// demoRig is a demo behind a server, with the processes that it has started.
type demoRig struct {
	t         *testing.T
	demo      *Demo
	server    *httptest.Server
	available Available
	started   chan *process
	fails     error
	ends      context.Context // for answers that last; nil: the request's
}

func newDemoRig(t *testing.T) *demoRig {
	r := &demoRig{t: t, available: Available{Available: true, Most: 1000}, started: make(chan *process, 10)}
	r.demo = NewDemo(func() Numbers { return Numbers{Visitors: r.available} }, func() (io.ReadWriteCloser, error) {
		if r.fails != nil {
			return nil, r.fails
		}
		p := newProcess()
		r.started <- p
		return p, nil
	})
	r.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		lasting := func() context.Context {
			if r.ends != nil {
				return r.ends
			}
			return req.Context()
		}
		if !r.demo.Serve(w, req, lasting) {
			http.NotFound(w, req)
		}
	}))
	t.Cleanup(r.server.Close)
	return r
}

// post sends a request as the page does.
func (r *demoRig) post(path, body string) *http.Response {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), "POST", r.server.URL+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Connection", "keep-alive")
	req.Header.Set("Origin", r.server.URL)
	client := http.Client{Transport: &http.Transport{ResponseHeaderTimeout: patience, DisableKeepAlives: false}}
	r.t.Cleanup(client.CloseIdleConnections)
	resp, err := client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// want sends a request and sees what is answered.
func (r *demoRig) want(path, body string, status int, text string) {
	r.t.Helper()
	resp := r.post(path, body)
	if got, _ := io.ReadAll(resp.Body); resp.StatusCode != status || string(got) != text {
		r.t.Errorf("%s %s: got %d %q, want %d %q", path, body, resp.StatusCode, got, status, text)
	}
}

// bring brings visitors, and returns their process and the page's lines.
func (r *demoRig) bring(body string) (*process, *http.Response, *bufio.Reader) {
	r.t.Helper()
	resp := r.post("/demo/visitors", body)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/x-ndjson" || resp.Header.Get("Cache-Control") != "no-store" {
		r.t.Fatalf("got %d %v", resp.StatusCode, resp.Header)
	}
	return within(r.t, "the process", r.started), resp, bufio.NewReader(resp.Body)
}

func within[T any](t *testing.T, what string, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(patience):
		t.Fatalf("waited %v for %s", patience, what)
	}
	return v
}

func wantLine(t *testing.T, from *bufio.Reader, want string) {
	t.Helper()
	if got, err := from.ReadString('\n'); got != want || err != nil {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestVisitorsAreBroughtCutAndSentHome(t *testing.T) {
	r := newDemoRig(t)
	r.want("/demo/visitors/cut", `{"count":1}`, http.StatusConflict, "There are no visitors.\n")
	asked := make(chan *process, 1)
	go func() {
		p := <-r.started
		line, err := p.commands.ReadString('\n')
		want := `{"url":"ws` + strings.TrimPrefix(r.server.URL, "http") + `","channel":"a/b","token":"t","count":7}` + "\n"
		if line != want || err != nil {
			t.Errorf("the process is asked %q, %v, want %q", line, err, want)
		}
		r.started <- p
		asked <- p
	}()
	p, page, lines := r.bring(`{"count":7,"channel":"a/b","token":"t"}`)
	within(t, "the request", asked)
	io.WriteString(p.lines, "{\"type\":\"connecting\"}\n")
	wantLine(t, lines, "{\"type\":\"connecting\"}\n")
	long := strings.Repeat("x", 100<<10) + "\n"
	go io.WriteString(p.lines, long+"short\n")
	wantLine(t, lines, long)
	wantLine(t, lines, "short\n")

	r.want("/demo/visitors", `{"count":7}`, http.StatusConflict, "There are visitors already.\n")
	var cutting sync.WaitGroup
	cutting.Go(func() { wantLine(t, p.commands, "{\"cut\":3}\n") })
	r.want("/demo/visitors/cut", `{"count":3}`, http.StatusAccepted, "")
	cutting.Wait()

	page.Body.Close()
	within(t, "the process to be ended with the page", p.closed)
	p, _, lines = r.bringPlainly()
	p.Close() // it ends by itself
	wantLine(t, lines, "last\n")
	if _, err := lines.ReadByte(); err != io.EOF {
		t.Errorf("got %v, want the answer's end", err)
	}
}

// bringPlainly is bring with a process that takes what it is asked.
func (r *demoRig) bringPlainly() (*process, *http.Response, *bufio.Reader) {
	r.t.Helper()
	go func() {
		p := <-r.started
		p.commands.ReadString('\n') // ignored: it is asked
		r.started <- p
	}()
	return r.bring(`{"count":1}`)
}

func TestVisitorsEndWithTheGateway(t *testing.T) {
	r := newDemoRig(t)
	var end context.CancelFunc
	r.ends, end = context.WithCancel(t.Context())
	p, _, lines := r.bringPlainly()
	end()
	within(t, "the process to be ended", p.closed)
	wantLine(t, lines, "last\n") // what it says is passed on to the end
	if _, err := lines.ReadByte(); err != io.EOF {
		t.Errorf("got %v, want the answer's end", err)
	}
}

// writeLimited is a response that notes how long a write has.
type writeLimited struct {
	*httptest.ResponseRecorder
	left []time.Duration
}

func (w *writeLimited) SetWriteDeadline(t time.Time) error {
	w.left = append(w.left, time.Until(t))
	return nil
}

func TestAPageThatDoesNotReadIsNotWaitedForForever(t *testing.T) {
	w := &writeLimited{ResponseRecorder: httptest.NewRecorder()}
	p := newProcess()
	go func() {
		io.WriteString(p.lines, "one\n")
		io.WriteString(p.lines, "two\n")
		p.lines.Close()
	}()
	pass(w, p)
	if w.Body.String() != "one\ntwo\n" || len(w.left) != 2 || w.left[0] > lineTime || w.left[1] > lineTime {
		t.Errorf("%q, with %v for each write", w.Body, w.left)
	}
}

func TestWhatIsAskedOfVisitorsIsChecked(t *testing.T) {
	r := newDemoRig(t)
	const malformed = "Malformed JSON: use {\"count\": 1000, \"channel\": \"lobby\"}.\n"
	r.available.Most = 500
	for body, want := range map[string]string{
		"": malformed, "{": malformed, `{"count":"1"}`: malformed, `{"count":1} {}`: malformed, `[1]`: malformed,
		`{"token":"` + strings.Repeat("x", demoBodyBytes) + `"}`: malformed,
		`{}`: "Invalid count: use 1 to 500.\n", `{"count":-1}`: "Invalid count: use 1 to 500.\n", `{"count":501}`: "Invalid count: use 1 to 500.\n",
	} {
		r.want("/demo/visitors", body, http.StatusBadRequest, want)
	}
	for _, body := range []string{"", "{", `{}`, `{"count":0}`, `{"count":-5}`, `{"count":"5"}`} {
		r.want("/demo/visitors/cut", body, http.StatusBadRequest, "Malformed request: use {\"count\": 100}.\n")
	}
	r.available = Available{Reason: "Not here."}
	r.want("/demo/visitors", `{"count":1}`, http.StatusServiceUnavailable, "Not here.\n")
	r.available = Available{Available: true, Most: 1}
	for range 2 { // the place is given back
		r.fails = errors.New("secret")
		r.want("/demo/visitors", `{"count":1}`, http.StatusServiceUnavailable, "The visitors could not be started: see the gateway's log.\n")
	}
}

func TestVisitorsAreForTheGatewaysOwnPageAndNobodyElse(t *testing.T) {
	r := newDemoRig(t)
	for _, path := range []string{"/demo/visitors", "/demo/visitors/cut"} {
		for _, field := range []string{"Origin: https://app.example", "X-Forwarded-For: 192.0.2.1", "Sec-Fetch-Site: cross-site"} {
			name, value, _ := strings.Cut(field, ": ")
			req := httptest.NewRequest("POST", path, strings.NewReader(`{"count":1}`))
			req.Host = "127.0.0.1"
			req.Header.Set("Connection", "keep-alive")
			req.Header.Set("Origin", "http://127.0.0.1")
			req.Header.Set(name, value)
			if w := httptest.NewRecorder(); r.demo.Serve(w, req, nil) || w.Body.Len() > 0 {
				t.Errorf("%s with %s: answered %q", path, field, w.Body)
			}
		}
		req := browser()
		req.URL.Path = path
		if r.demo.Serve(httptest.NewRecorder(), req, nil) {
			t.Errorf("GET %s: answered", path)
		}
	}
	if len(r.started) > 0 {
		t.Error("visitors were brought")
	}
}

func TestTheProcessIsAskedAtTheListenerOfTheRequest(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, gatewayOf(r)) // ignored: the client would see
	}))
	server.StartTLS()
	defer server.Close()
	resp, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if diff := cmp.Diff("wss"+strings.TrimPrefix(server.URL, "https"), string(got)); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
}
