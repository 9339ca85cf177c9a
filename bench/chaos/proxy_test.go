package main

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// Whatever a proxy does to segments, the bytes are the same and in order; a half
// closed connection still carries the other way.
func TestProxyCarriesEveryByte(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	p, err := newProxy(server.Addr().String(), 1, proxyFaults{Life: time.Hour, Delay: time.Millisecond, Chop: 1, Bytes: 7})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.Rage()
	client, err := net.Dial("tcp", p.listen.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	want := bytes.Repeat([]byte("0123456789"), 3000)
	go func() {
		client.Write(want) // what fails is missing below
		client.(*net.TCPConn).CloseWrite()
	}()
	upstream, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer upstream.Close()
	got, err := io.ReadAll(upstream)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes arrived, %v, want %d", len(got), err, len(want))
	}
	upstream.Write(want[:99]) // what fails is missing below
	upstream.Close()
	if got, err := io.ReadAll(client); err != nil || !bytes.Equal(got, want[:99]) {
		t.Errorf("after the half close %q came back, %v", got, err)
	}
	if p.chopped.Load() < 8 {
		t.Errorf("%d segments of one byte", p.chopped.Load())
	}
}
