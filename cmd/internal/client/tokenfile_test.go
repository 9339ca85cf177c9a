package client

import (
	"os"
	"testing"

	"sluice/cmd/internal/clitest"
)

// A new token in the file is used for the next connection.
func TestTokenFileIsReadAtEachConnect(t *testing.T) {
	path := clitest.WriteFile(t, "token", "one\n")
	g := newFakeGateway(t, func(c *fakeConn) {
		c.publications("e1", 1, 1)
		if err := os.WriteFile(path, []byte("two+"), 0o600); err != nil {
			t.Error(err)
		}
	}, func(c *fakeConn) {
		c.publications("e1", 2, 2)
		c.wantBye()
	})
	sub := clitest.Start(t, commands(), nil, "sub", "news", "--url", g.url, "--count", "2", "--token-file", path)
	sub.WantExit(0)
	g.wantQueries("format=json&mode=subscribe&since=now&token=one", "format=json&mode=subscribe&since=e1%3A1&token=two%2B")
}
