package ops

import (
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// KernelMemory returns the bytes that the kernel uses for the buffers of TCP sockets, and false where
// the system does not tell. It is the sum of the whole machine: the kernel counts this memory, unlike the
// sockets, across network namespaces. root is the root of the file system.
func KernelMemory(root fs.FS) (bytes int64, ok bool) {
	text, err := fs.ReadFile(root, "proc/self/net/sockstat") // ignored below: then it is not known
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line) // TCP: inuse 5 orphan 0 tw 1 alloc 7 mem 2
		if len(words) == 0 || words[0] != "TCP:" {
			continue
		}
		for i := 1; i+1 < len(words); i += 2 {
			if words[i] == "mem" {
				pages, err := strconv.ParseInt(words[i+1], 10, 64)
				return pages * int64(os.Getpagesize()), err == nil && pages >= 0
			}
		}
	}
	return 0, false
}
