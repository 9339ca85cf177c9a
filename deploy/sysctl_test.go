package deploy_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// setting is one line of the sysctl file.
type setting struct {
	key, value string
	optional   bool   // "-": of a module
	reason     string // the comment above
}

func settings(t *testing.T) []setting {
	t.Helper()
	var found []setting
	reason := ""
	for line := range strings.Lines(shipped(t, "sysctl/60-sluice.conf")) {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
			reason = ""
		case strings.HasPrefix(line, "#"):
			reason += strings.TrimPrefix(line, "#")
		default:
			key, value, ok := strings.Cut(line, "=")
			if !ok {
				t.Fatalf("%q is no setting", line)
			}
			s := setting{key: strings.TrimSpace(key), value: strings.TrimSpace(value), reason: reason}
			s.key, s.optional = strings.CutPrefix(s.key, "-")
			found = append(found, s)
			reason = ""
		}
	}
	return found
}

// path is where the kernel shows a setting.
func (s setting) path() string {
	return filepath.Join("/proc/sys", strings.ReplaceAll(s.key, ".", "/"))
}

func TestKernelKnowsEverySetting(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, s := range settings(t) {
		if seen[s.key] {
			t.Errorf("%s is set twice", s.key)
		}
		seen[s.key] = true
		if s.reason == "" {
			t.Errorf("%s has no reason above it", s.key)
		}
		now, err := os.ReadFile(s.path())
		if err != nil && s.optional {
			t.Logf("%s belongs to a module that is not loaded here", s.key)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", s.key, err)
			continue
		}
		got, want := strings.Fields(s.value), strings.Fields(string(now))
		if len(got) != len(want) {
			t.Errorf("%s = %s has %d numbers, the kernel %d", s.key, s.value, len(got), len(want))
		}
		for i, field := range got {
			n, err := strconv.ParseUint(field, 10, 63)
			if err != nil {
				t.Errorf("%s = %s: %q is no number", s.key, s.value, field)
			}
			if i > 0 {
				if before, _ := strconv.ParseUint(got[i-1], 10, 63); n < before {
					t.Errorf("%s = %s goes down", s.key, s.value)
				}
			}
		}
	}
	if len(seen) < 10 {
		t.Fatalf("found %d settings", len(seen))
	}
}

// Ports of outgoing connections must not be those that the gateway listens on.
func TestLocalPortsLeaveTheGatewaysOut(t *testing.T) {
	t.Parallel()
	defaults := flags(t)
	for _, s := range settings(t) {
		if s.key != "net.ipv4.ip_local_port_range" {
			continue
		}
		least, _ := strconv.Atoi(strings.Fields(s.value)[0])
		for _, flag := range []string{"listen", "internal-listen"} {
			_, port, _ := strings.Cut(defaults[flag], ":")
			if n, err := strconv.Atoi(port); err != nil || n >= least {
				t.Errorf("--%s %s is among the local ports %s", flag, defaults[flag], s.value)
			}
		}
		return
	}
	t.Error("net.ipv4.ip_local_port_range is not set")
}
