package certificate

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/gateway/clienttest"

	"github.com/google/go-cmp/cmp"
)

// watched looks at files at times of its own.
type watched struct {
	t     *testing.T
	files Files
	watcher
	now time.Time
	out bytes.Buffer
}

const every = 10 * time.Minute

func watch(t *testing.T, files func(t *testing.T, a *authority) Files, f func(a *authority, w *watched)) {
	t.Helper()
	a := newAuthority(t)
	w := &watched{t: t, files: files(t, a), now: time.Now().Truncate(time.Second)}
	w.Store, w.log = load(t, w.files), w.logger(&w.out)
	w.warn(w.now)
	f(a, w)
}

func (w *watched) logger(out io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == "expires" {
				return slog.Attr{}
			}
			return a
		},
	}))
}

// after lets time pass and compares what was logged in it: the beginning of each line.
func (w *watched) after(d time.Duration, want ...string) {
	w.t.Helper()
	for ; d > 0; d -= every {
		w.now = w.now.Add(every)
		w.look(w.now)
	}
	var got []string
	for line := range strings.Lines(w.out.String()) {
		line = strings.TrimSpace(line)
		if i := len(got); i < len(want) && strings.HasPrefix(line, want[i]) {
			line = want[i]
		}
		got = append(got, line)
	}
	w.out.Reset()
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("after %v: %s", d, diff)
	}
}

// lines has what is logged.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// Watch looks at once and then again and again, until it is to end.
func TestWatchLooksAgainAndAgain(t *testing.T) {
	watch(t, pairFor(-time.Minute), func(a *authority, w *watched) {
		ctx, cancel := context.WithCancel(t.Context())
		out, ended := make(lines, 100), make(chan struct{})
		go func() {
			defer close(ended)
			w.Watch(ctx, time.Millisecond, w.logger(out))
		}()
		waits := func(want string) {
			for !strings.HasPrefix(clienttest.Receive(t, want, out), want) { // files are not written at once
			}
		}
		waits(`level=WARN msg="Cert `)
		cert, key := a.leaf(2, month)
		write(t, w.files.Key, key)
		waits(failed)
		write(t, w.files.Cert, cert)
		waits(reloaded)
		cancel()
		clienttest.Receive(t, "the end", ended)
	})
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
		before := w.live.Load()
		cert, key := a.leaf(2, month)
		write(t, w.files.Cert, cert)
		w.after(time.Hour, failed)
		if w.live.Load() != before {
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
		if got := w.live.Load().leaf.SerialNumber.Int64(); got != 2 {
			t.Errorf("certificate %d, want 2", got)
		}
	})
}
