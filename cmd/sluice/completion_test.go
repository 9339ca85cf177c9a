package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCompletionScriptsAreForTheirShells(t *testing.T) {
	for shell, mark := range map[string]string{
		"bash": "complete -o default -F __start_sluice sluice", "zsh": "#compdef sluice",
		"fish": "complete -c sluice", "powershell": "Register-ArgumentCompleter -CommandName 'sluice'",
	} {
		code, stdout, stderr := runOnce(nil, "completion", shell)
		if code != 0 || stderr != "" || !strings.Contains(stdout, mark) || !strings.Contains(stdout, "__complete") {
			t.Errorf("%s: exit code %d, stderr %q, %d bytes; want a script with %q", shell, code, stderr, len(stdout), mark)
		}
	}
}

func TestCompletionOffersCommandsFlagsAndWords(t *testing.T) {
	tests := []struct {
		name      string
		args      string // the last word is what has been typed so far; _ is an empty one
		offers    []string
		none      []string
		directive string
	}{
		{"commands", "_", []string{"serve", "check", "config", "health", "bench", "completion", "version"}, []string{"__complete"}, ":4"},
		{"commands that begin so", "che", []string{"check"}, []string{"serve"}, ":4"},
		{"commands of bench", "bench _", []string{"fanout", "storm"}, []string{"floor-sender"}, ":4"},
		{"shells", "completion _", []string{"bash", "zsh", "fish", "powershell"}, nil, ":4"},
		{"commands to be helped with", "help _", []string{"check", "bench"}, []string{"__complete"}, ":4"},
		{"subcommands to be helped with", "help bench _", []string{"idle"}, []string{"floor-sender", "serve"}, ":4"},
		{"flags of serve", "serve --max-", []string{"--max-message", "--max-connections"}, []string{"--listen"}, ":4"},
		{"flags of sluice itself", "--li", []string{"--listen"}, nil, ":4"},
		{"flags of check", "check --hist", []string{"--history", "--history-ttl"}, nil, ":4"},
		{"flags of config", "config --js", []string{"--json"}, nil, ":4"},
		{"flags of health", "health --", []string{"--ready", "--url", "--listen"}, []string{"--max-message"}, ":4"},
		{"words", "serve --raw _", []string{"auto", "publish", "listen", "off"}, nil, ":4"},
		{"words of check", "check --log-level _", []string{"debug", "info", "warn", "error"}, nil, ":4"},
		{"the default and off", "--ping-interval _", []string{"25s", "off"}, nil, ":4"},
		{"the default alone", "--max-message _", []string{"64KiB"}, []string{"off"}, ":4"},
		{"an address", "--internal-listen _", []string{"127.0.0.1:9000", "off"}, nil, ":4"},
		{"a listener that can be off", "--listen _", []string{"127.0.0.1:8000", "off"}, nil, ":4"},
		{"a bound", "--message-rate _", []string{"auto", "off"}, nil, ":4"},
		{"how to refuse", "check --refuse _", []string{"http", "close"}, nil, ":4"},
		{"flags of TLS", "--tls-", []string{"--tls-listen", "--tls-cert", "--tls-key", "--tls-client-ca", "--tls-self-signed"}, nil, ":4"},
		{"files", "--config _", nil, nil, ":0"},
		{"certificates", "--tls-cert _", nil, nil, ":0"},
		{"directories", "--web-root _", nil, nil, ":16"},
		{"no files for a number", "bench idle --pid _", nil, nil, ":4"},
		{"no files for a URL", "health --url _", nil, nil, ":4"},
		{"no files for an argument", "check _", nil, nil, ":4"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := strings.Fields(tt.args)
			if last := len(args) - 1; args[last] == "_" {
				args[last] = ""
			}
			code, stdout, _ := runOnce(nil, append([]string{"__complete"}, args...)...)
			if code != 0 {
				t.Fatalf("exit code %d", code)
			}
			offered := map[string]bool{}
			lines := strings.Split(strings.TrimSpace(stdout), "\n")
			for _, line := range lines {
				word, _, _ := strings.Cut(line, "\t")
				offered[word] = true
			}
			for _, word := range tt.offers {
				if !offered[word] {
					t.Errorf("%s is not offered:\n%s", word, stdout)
				}
			}
			for _, word := range tt.none {
				if offered[word] {
					t.Errorf("%s is offered", word)
				}
			}
			if diff := cmp.Diff(tt.directive, lines[len(lines)-1]); diff != "" {
				t.Error(diff)
			}
		})
	}
}
