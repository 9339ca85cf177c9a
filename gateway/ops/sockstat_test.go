package ops

import (
	"os"
	"testing"
	"testing/fstest"
)

func TestKernelMemoryIsThatOfTCP(t *testing.T) {
	page := int64(os.Getpagesize())
	for name, test := range map[string]struct {
		text  string
		bytes int64
		ok    bool
	}{
		"as Linux prints it": {"sockets: used 290\nTCP: inuse 14 orphan 0 tw 66 alloc 20 mem 3\nUDP: inuse 2 mem 7\n", 3 * page, true},
		"none in use":        {"TCP: inuse 0 orphan 0 tw 0 alloc 0 mem 0\n", 0, true},
		"without memory":     {"TCP: inuse 14 orphan 0\nUDP: inuse 2 mem 7\n", 0, false},
		"no number":          {"TCP: inuse 14 mem x\n", 0, false},
		"a number alone":     {"TCP: mem\n", 0, false},
		"empty":              {"", 0, false},
	} {
		got, ok := KernelMemory(fstest.MapFS{"proc/self/net/sockstat": {Data: []byte(test.text)}})
		if ok != test.ok || ok && got != test.bytes {
			t.Errorf("%s: got %d, %v; want %d, %v", name, got, ok, test.bytes, test.ok)
		}
	}
	if _, ok := KernelMemory(fstest.MapFS{}); ok {
		t.Error("it is known without a file")
	}
}
