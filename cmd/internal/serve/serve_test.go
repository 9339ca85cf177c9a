package serve

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/clitest"
	"sluice/cmd/internal/option"
	"sluice/gateway"
)

func TestListenerThatEndsStopsTheProcess(t *testing.T) {
	server, err := gateway.New(gateway.Config{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := gateway.Listen(t.Context(), "tcp", "127.0.0.1:0", 0)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	s := service{log: slog.New(slog.DiscardHandler), server: server, supervisor: new(notifier), publicListeners: []publicListener{{Listener: l}}}
	cfg := &Settings{ShutdownTimeout: clitest.Patience}
	s.current.Store(&configured{cfg: cfg, opts: option.New(cfg)})
	if err := s.run(t.Context(), nil); err != cli.ExitCode(cli.ExitFailed) {
		t.Errorf("it ends with %v, want exit code %d", err, cli.ExitFailed)
	}
}

func TestURLsToClick(t *testing.T) {
	for _, tt := range []struct{ ip, want string }{
		{"127.0.0.1", "http://127.0.0.1:8000/"},
		{"192.0.2.1", "http://192.0.2.1:8000/"},
		{"0.0.0.0", "http://localhost:8000/"},
		{"::", "http://localhost:8000/"},
		{"::1", "http://[::1]:8000/"},
	} {
		if got := clickable("http", &net.TCPAddr{IP: net.ParseIP(tt.ip), Port: 8000}); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.ip, got, tt.want)
		}
	}
}

func TestEndpointsKnowWhoCanReachThem(t *testing.T) {
	for text, local := range map[string]bool{
		"127.0.0.1:1": true, "127.9.9.9:1": true, "[::1]:1": true, "localhost:1": true, "unix:/s": true,
		":1": false, "0.0.0.0:1": false, "[::]:1": false, "192.0.2.1:1": false, "[::ffff:127.0.0.1]:1": true,
	} {
		e, err := ParseEndpoint("listen", text)
		if err != nil || e.local != local {
			t.Errorf("%s: local %v, %v; want %v", text, e.local, err, local)
		}
	}
}

func TestPageIsToldWhereToPublishOnlyOnThisMachine(t *testing.T) {
	for _, tt := range []struct {
		network, address string
		told             bool
	}{
		{"tcp", "127.0.0.1:0", true}, {"tcp", "0.0.0.0:0", false}, {"unix", filepath.Join(t.TempDir(), "s"), false},
	} {
		l, err := net.Listen(tt.network, tt.address)
		if err != nil {
			t.Fatal(err)
		}
		want := ""
		if tt.told {
			want = "http://" + l.Addr().String()
		}
		if got := publishURL(l); got != want {
			t.Errorf("%s %s: %q, want %q", tt.network, tt.address, got, want)
		}
		l.Close()
	}
	if got := publishURL(nil); got != "" {
		t.Errorf("no listener: %q", got)
	}
}

func TestStuckLoopEndsTheProcessWithAStatusOfItsOwn(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want cli.ExitCode
	}{
		{fmt.Errorf("gateway: loop 1 has not ticked for 30 s: %w", gateway.ErrLoopStuck), 70},
		{errors.New("loop 1: wait: bad file descriptor"), cli.ExitFailed},
	} {
		if got := failedExit(tt.err); got != tt.want {
			t.Errorf("%v: exit code %d, want %d", tt.err, got, tt.want)
		}
	}
}

func TestLogFormat(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close() // a character device, as a terminal is
	var pipe strings.Builder
	if _, plain := newLogger(null, slog.LevelInfo, "auto"); !plain {
		t.Error("a terminal gets no plain text")
	}
	if _, plain := newLogger(null, slog.LevelInfo, "json"); plain {
		t.Error("json on a terminal is plain text")
	}
	for format, want := range map[string]string{"auto": `"msg":"hello"`, "json": `"msg":"hello"`, "text": "msg=hello"} {
		pipe.Reset()
		logger, plain := newLogger(&pipe, slog.LevelWarn, format)
		logger.Info("silent")
		logger.Warn("hello")
		if plain || !strings.Contains(pipe.String(), want) || strings.Contains(pipe.String(), "silent") {
			t.Errorf("%s: plain %v, %q", format, plain, pipe.String())
		}
	}
}
