package top

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/clitest"
	"sluice/cmd/internal/option"
	"sluice/cmd/internal/serve"
)

func nodesCommand(env []string) *cobra.Command {
	root, cfg := &cobra.Command{Use: "sluice"}, new(serve.Settings)
	root.AddCommand(NewNodesCommand(cfg, option.New(cfg), env))
	return root
}

// answering returns a listener that answers POST /api/info.
func answering(t *testing.T, status int, body string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/api/info" {
			t.Errorf("it asks %s %s", r.Method, r.URL)
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestNodes(t *testing.T) {
	const alone = `{"result":{"nodes":[{"uid":"u1","name":"gw-1","version":"1.2","num_clients":1200,"num_users":3,"num_subs":4,"num_channels":5,"uptime":90}]}}`
	const three = `{"result":{"nodes":[
		{"uid":"u1","name":"gw-1","version":"1.2","num_clients":12000,"num_users":300,"num_subs":4,"num_channels":5,"uptime":90,"draining":true},
		{"uid":"u2","name":"gw-2` + "\\u001b[2J" + `","version":"","num_clients":0,"num_users":0,"num_subs":0,"num_channels":0,"uptime":0,"away":true},
		{"uid":"u3","name":"gw-3","version":"1.2","num_clients":1,"num_users":1,"num_subs":1,"num_channels":1,"uptime":90,"away":true,"silent":75}],
		"partial":true,"engine":{"up":false,"parts":{"store":false,"connection":true},"away":2.5,"pending":17,"pending_bytes":3400,"lag":1.25,"gaps":{"slow":2000,"chain":1,"gone":0}}}}`
	for _, test := range []struct{ body, want string }{
		{alone, `NODE  VERSION  CLIENTS  USERS  SUBSCRIPTIONS  CHANNELS  UPTIME  ENGINE  ID
gw-1  1.2        1,200      3              4         5   1m30s  memory  u1
`},
		{three, `engine away for 2.5s, store down  pending 17 (3.3KiB)  lag 1.2s  gaps 2,001 (chain 1, slow 2,000)

NODE     VERSION  CLIENTS  USERS  SUBSCRIPTIONS  CHANNELS  UPTIME  ENGINE                    ID
gw-1     1.2       12,000    300              4         5   1m30s  up, draining              u1
gw-2[2J  -              0      0              0         0       -  away                      u2
gw-3     1.2            1      1              1         1   1m30s  unknown, heard 1m15s ago  u3

This node does not hear all others at the moment: nodes may be missing. Of those that are unknown, the last figures are shown.
`},
		{strings.Replace(alone, `}]}`, `}],"engine":{"up":true,"parts":{"store":true}}}`, 1), `engine up  pending 0 (0B)  lag -  gaps 0

NODE  VERSION  CLIENTS  USERS  SUBSCRIPTIONS  CHANNELS  UPTIME  ENGINE  ID
gw-1  1.2        1,200      3              4         5   1m30s  up      u1
`},
	} {
		url := answering(t, 200, test.body)
		code, stdout, stderr := clitest.Run(nodesCommand(nil), "", "nodes", "--url", url)
		if diff := cmp.Diff(test.want, stdout); diff != "" || code != 0 || stderr != "" {
			t.Errorf("exit code %d, stderr %q\n%s", code, stderr, diff)
		}
		code, stdout, _ = clitest.Run(nodesCommand([]string{"SLUICE_INTERNAL_LISTEN=" + strings.TrimPrefix(url, "http://")}), "", "nodes", "--json")
		if code != 0 || stdout != test.body+"\n" {
			t.Errorf("exit code %d, --json:\n%s", code, stdout)
		}
	}
}

func TestNodesSaysInOneLineWhatIsWrong(t *testing.T) {
	for _, test := range []struct {
		status int
		body   string
		want   string
	}{
		{401, ``, ": missing or wrong API key; specify the gateway's key with --api-key-file"},
		{404, ``, ": not found; this is not a gateway's internal listener (use --url), or the gateway is older than this command"},
		{200, `<html>`, ": unexpected response; is this a gateway's internal listener?"},
		{200, `{}`, ": unexpected response; is this a gateway's internal listener?"},
		{200, `{"error":{"code":100,"message":"the gateway is shutting down"}}`, ": the gateway is shutting down"},
	} {
		url := answering(t, test.status, test.body)
		code, stdout, stderr := clitest.Run(nodesCommand(nil), "", "nodes", "--url", url)
		if want := "sluice: " + url + "/api/info" + test.want + "\n"; code != cli.ExitFailed || stdout != "" || stderr != want {
			t.Errorf("exit code %d, stdout %q, stderr\n%swant\n%s", code, stdout, stderr, want)
		}
	}
	if code, _, stderr := clitest.Run(nodesCommand(nil), "", "nodes", "--timeout", "0s"); code != cli.ExitUsage || !strings.Contains(stderr, "--timeout 0s: must be greater than 0") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
}
