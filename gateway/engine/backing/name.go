package backing

import (
	"crypto/rand"
	"encoding/base32"
	"os"
	"strings"
)

// hostName returns the machine's name, "" if it is not known.
func hostName() string {
	name, _ := os.Hostname() // ignored: a name is a convenience
	return name
}

// drawName returns a name that no other node has, not even one on the same machine: containers often have
// the same host name, and a name that is live already is refused.
func drawName() string {
	var b [5]byte
	rand.Read(b[:]) // never fails
	suffix := strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
	if host := hostName(); host != "" {
		return host + "-" + suffix
	}
	return suffix
}
