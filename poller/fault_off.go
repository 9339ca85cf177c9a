//go:build !faults

package poller

func fault(_ Call, _ int, p []byte) ([]byte, error) { return p, nil }

func made(err error) (int, error) { return 0, err }
