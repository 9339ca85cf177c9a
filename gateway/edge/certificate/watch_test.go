package certificate

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// watched runs a Store's Watch in a bubble, where time passes at once.
type watched struct {
	t     *testing.T
	files Files
	store *Store
	log   logged
}

// logged is what the log holds; it is written and read by two goroutines.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// take gives what has come since the last time.
func (l *logged) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

const every = 10 * time.Minute

func watch(t *testing.T, files func(t *testing.T, a *authority) Files, f func(a *authority, w *watched)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t)
		w := &watched{t: t, files: files(t, a)}
		w.store = load(t, w.files)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		log := slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{
			ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey || a.Key == "expires" {
					return slog.Attr{}
				}
				return a
			},
		}))
		go w.store.Watch(ctx, every, log)
		time.Sleep(every / 2) // between two looks
		f(a, w)
	})
}

// after lets time pass and compares what was logged in it: the beginning of each line.
func (w *watched) after(d time.Duration, want ...string) {
	w.t.Helper()
	time.Sleep(d)
	synctest.Wait()
	var got []string
	for line := range strings.Lines(w.log.take()) {
		line = strings.TrimSpace(line)
		if i := len(got); i < len(want) && strings.HasPrefix(line, want[i]) {
			line = want[i]
		}
		got = append(got, line)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("after %v: %s", d, diff)
	}
}

func pairFor(ttl time.Duration) func(t *testing.T, a *authority) Files {
	return func(t *testing.T, a *authority) Files { return a.place(t, ttl) }
}

const (
	reloaded = `level=INFO msg="certificates reloaded" certificate.names=[example.test]`
	failed   = `level=ERROR msg="certificates cannot be reloaded: the last good ones stay in use" error="Key `
)

func TestWatchTakesAPairThatIsWrittenInTwoSteps(t *testing.T) {
	watch(t, pairFor(month), func(a *authority, w *watched) {
		w.after(time.Hour)
		cert, key := a.leaf(2, month)
		write(t, w.files.Cert, cert)
		w.after(every) // looked at once, and not yet a fault
		write(t, w.files.Key, key)
		w.after(time.Hour, reloaded)
	})
}

func TestWatchTellsOnceWhatStaysBad(t *testing.T) {
	watch(t, pairFor(month), func(a *authority, w *watched) {
		before := w.store.live.Load()
		cert, key := a.leaf(2, month)
		write(t, w.files.Cert, cert)
		w.after(time.Hour, failed)
		if w.store.live.Load() != before {
			t.Error("a certificate is used without its key")
		}
		if err := os.Remove(w.files.Key); err != nil { // another fault
			t.Fatal(err)
		}
		w.after(time.Hour, failed+w.files.Key+": no such file")
		write(t, w.files.Key, key)
		w.after(time.Hour, reloaded)
		write(t, w.files.Key, nil) // and the first kind again
		w.after(time.Hour, failed)
	})
}

func TestWatchWarnsOfTheEndOnceADay(t *testing.T) {
	const day = 24 * time.Hour
	watch(t, pairFor(soon+day), func(a *authority, w *watched) {
		w.after(day) // not yet
		w.after(day, `level=WARN msg="Cert `)
		w.after(3*day, `level=WARN msg="Cert `, `level=WARN msg="Cert `, `level=WARN msg="Cert `)
		cert, key := a.leaf(2, 2*soon)
		write(t, w.files.Cert, cert)
		write(t, w.files.Key, key)
		w.after(3*day, reloaded)
	})
	watch(t, pairFor(-time.Minute), func(_ *authority, w *watched) {
		w.after(0, `level=WARN msg="Cert `+w.files.Cert+`: expired at `)
	})
}

// Kubernetes puts files into a directory of their own and turns a link round.
func TestWatchFollowsALinkThatIsTurned(t *testing.T) {
	dir := t.TempDir()
	swap := func(t *testing.T, a *authority, serial int64, name string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		cert, key := a.leaf(serial, month)
		write(t, filepath.Join(dir, name, "tls.crt"), cert)
		write(t, filepath.Join(dir, name, "tls.key"), key)
		if err := os.Symlink(name, filepath.Join(dir, "..tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	first := func(t *testing.T, a *authority) Files {
		swap(t, a, 1, "..1")
		for _, name := range []string{"tls.crt", "tls.key"} {
			if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		return Files{Cert: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key")}
	}
	watch(t, first, func(a *authority, w *watched) {
		swap(t, a, 2, "..2")
		if err := os.RemoveAll(filepath.Join(dir, "..1")); err != nil {
			t.Fatal(err)
		}
		w.after(time.Hour, reloaded)
		if got := w.store.live.Load().leaf.SerialNumber.Int64(); got != 2 {
			t.Errorf("certificate %d, want 2", got)
		}
	})
}
