// Command interop drives six WebSocket clients that share no code against a real
// gateway, over ws and wss, and fails where one of them sees anything else than the
// others: gorilla/websocket, coder/websocket, lxzan/gws, gobwas/ws, npm ws and
// Chromium. ./run builds what it needs and starts it.
//
// Every client does the same cases (cases.go) on connections of its own. Beside them
// each holds two connections to one channel, with and without format=json, into which
// all of them and the internal listener publish at once; what arrives is kept in
// ledgers (ledger.go), which must be identical and complete. At the end the gateway
// is told to stop and must say so to everyone.
//
// It is a module of its own, so that the clients are no dependencies of the gateway.
// It knows nothing of the gateway but what gateway/PROTOCOL.md promises to clients.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	binary := flag.String("sluice", "", "the sluice binary to test")
	result := flag.String("json", "", "the file for the machine-readable result")
	flag.Parse()
	if *binary == "" || *result == "" || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "interop: -sluice and -json are needed; start it with ./run")
		os.Exit(2)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) // its processes end with it
	defer cancel()
	ctx, cancel = context.WithTimeout(ctx, time.Minute)
	defer cancel()
	r, err := run(ctx, *binary)
	if err == nil {
		r.print(os.Stdout)
		err = r.write(*result)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "interop: %v\n", err)
		os.Exit(1)
	}
	if !r.OK {
		os.Exit(1)
	}
}

// run starts a gateway and the clients, and does everything once.
func run(ctx context.Context, binary string) (_ *report, err error) {
	begin := time.Now()
	cert, err := newCertificate()
	if err != nil {
		return nil, err
	}
	defer cert.remove()
	g, err := startGateway(ctx, binary, cert)
	if err != nil {
		return nil, err
	}
	defer g.kill()
	clients, stop, err := allClients(ctx, g, cert)
	if err != nil {
		return nil, err
	}
	defer stop()

	r := newReport(clients)
	subs, err := subscribe(ctx, clients, g)
	if err != nil {
		return nil, err
	}
	eachClient(clients, func(c *client) { doCases(ctx, c, g, r) })
	// One after the other, whatever comes of it: what failed stands in the report.
	r.fault(stayedOpen(ctx, subs, g, r))
	r.fault(exchange(ctx, subs, g, r))
	r.fault(r.count(ctx, g, len(subs)))
	r.fault(g.stop())
	lastWords(ctx, subs, r)
	r.finish(time.Since(begin))
	return r, nil
}
