package client

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/spf13/cobra"

	"sluice/bench/clienttls"
	"sluice/cmd/internal/clitest"
)

// With TLS 1.3, a client learns only after the handshake that it was rejected.
func TestAWantedCertificateIsNamed(t *testing.T) {
	me, other := clitest.NewIdentity(t), clitest.NewIdentity(t)
	pair, err := tls.LoadX509KeyPair(me.Cert, me.Key)
	if err != nil {
		t.Fatal(err)
	}
	for alert, shown := range map[string][]tls.Certificate{"certificate required": nil, "unknown certificate authority": {pair}} {
		config := &tls.Config{Certificates: []tls.Certificate{pair}}
		other.Demand(config)
		config.MaxVersion = 0
		client, server := net.Pipe()
		served := make(chan struct{})
		go func() {
			defer close(served)
			tls.Server(server, config).Handshake() // error ignored: the client reports it
			server.Close()
		}()
		conn := tls.Client(client, &tls.Config{InsecureSkipVerify: true, Certificates: shown, // of a test
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return &append(shown, tls.Certificate{})[0], nil // even one that the server does not ask for
			}})
		_, err := conn.Read(make([]byte, 1))
		const want = "the server requires a client certificate: %s; specify one that it accepts with --cert and --key"
		if got, again := clienttls.Explain(err); got == nil || got.Error() != fmt.Sprintf(want, alert) || again {
			t.Errorf("%v: %v, %t", err, got, again)
		}
		client.Close()
		<-served
	}
}

func TestClientsShowTheirCertificateWhereOneIsWanted(t *testing.T) {
	me := clitest.NewIdentity(t)
	g := newFakeGateway(t, func(c *fakeConn) {
		c.position(false, "e1", 0)
		c.send(ws.OpText, `{"channel":"news","epoch":"e1","offset":1,"at":1,"from":"1","data":"x"}`)
		c.confirm()
	})
	gateway, ca := clitest.TLSProxy(t, g.l.Addr().String(), me.Demand)
	for _, command := range []string{"pub news x", "sub news --count 1"} {
		clitest.WantCertificate(t, commands, me, ca, append(strings.Fields(command), "--retry", "0s", "--url", "https://"+gateway)...)
	}
}

// commands returns a root with the commands of clients.
func commands() *cobra.Command {
	root := &cobra.Command{Use: "sluice"}
	root.AddCommand(NewPub(nil), NewSub(nil))
	return root
}
