package handover

import (
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"sluice/poller"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// write returns a sealed memory file with b in it.
func write(name string, b []byte) (*os.File, file, error) {
	f, err := poller.MemoryFile(name)
	if err != nil {
		return nil, file{}, err
	}
	if _, err = f.Write(b); err == nil {
		err = poller.Seal(f)
	}
	if err != nil {
		f.Close() // ignored: err matters
		return nil, file{}, err
	}
	return f, file{uint64(len(b)), crc32.Checksum(b, castagnoli)}, nil
}

// read returns what is in a memory file, whose descriptor it closes. It lies in b if that is large enough.
func read(fd int, want file, most uint64, b []byte) ([]byte, error) {
	f := os.NewFile(uintptr(fd), "handover")
	defer f.Close() // ignored: it was read
	if err := poller.Sealed(f); err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case uint64(info.Size()) != want.size || want.size > most:
		return nil, fmt.Errorf("handover: a file of %d bytes, want %d and at most %d", info.Size(), want.size, most)
	}
	if b = b[:0]; uint64(cap(b)) < want.size {
		b = make([]byte, want.size)
	}
	b = b[:want.size]
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, info.Size()), b); err != nil {
		return nil, err
	}
	if sum := crc32.Checksum(b, castagnoli); sum != want.sum {
		return nil, fmt.Errorf("handover: a file has the checksum %08x, want %08x", sum, want.sum)
	}
	return b, nil
}
