package ops

import (
	"io"
	"net"
	"net/http"
	"testing"
)

// What a handler does about its answer after its request has moved leaves nothing behind in the answer of the other
// process.
func TestRelayOfARequestWhoseAnswerBegins(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	other, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	r, begun := NewRelay(), make(chan struct{})
	old := &http.Server{Handler: r.Around(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		close(begun)
		<-req.Context().Done()
		w.Header().Set("X-Process", "old")
		w.WriteHeader(http.StatusServiceUnavailable)
		http.NewResponseController(w).Flush()
		io.WriteString(w, "too late")
	}))}
	go old.Serve(l)
	defer old.Close()
	next := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		io.WriteString(w, "done")
	})}
	go func() {
		<-begun
		r.Hold()
		r.Move("tcp", l.Addr().String(), func() { l.Close() })
		next.Serve(other)
	}()
	defer next.Close()
	res, err := http.Get("http://" + l.Addr().String() + "/api/info")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusAccepted || string(b) != "done" || res.Header.Get("X-Process") != "" {
		t.Errorf("%v %v %q, %v; want the answer of the new process", res.Status, res.Header, b, err)
	}
}
