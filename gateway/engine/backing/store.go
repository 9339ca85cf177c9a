// Package backing is what backs a gateway's channels: its memory, a data directory, or NATS servers.
// [Store] holds the settings, and [Open] starts the engine that they ask for.
//
// It is a package of its own because the settings exist in every build, and the engine that they start
// does not: with -tags nonats there is only the one in memory. It does not know connections or
// protocols.
package backing

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"sluice/gateway/setting"
)

// Form is one of the ways in which channels are backed.
type Form int

const (
	Memory  Form = iota // histories are this process's
	Disk                // histories are in a data directory
	Servers             // channels are shared with other gateways, and histories stored, through NATS servers
)

// String returns the form as texts name it.
func (f Form) String() string {
	switch f {
	case Disk:
		return "data directory"
	case Servers:
		return "NATS servers"
	}
	return "memory"
}

// Sync is when a history in a data directory is written to the disk itself.
type Sync int

const (
	// SyncInterval: once a second. A power failure may cost the newest publications; clients notice that.
	SyncInterval Sync = iota
	// SyncAlways: before a publication is acknowledged.
	SyncAlways
)

// String returns the setting as a word: "interval" or "always".
func (s Sync) String() string {
	if s == SyncAlways {
		return "always"
	}
	return "interval"
}

// Store says where histories are stored, and how channels are shared between gateways. In the zero
// value both end with the process.
type Store struct {
	// DataDir is a directory in which this gateway stores histories, alone: they survive a restart
	// and a crash. It is created if it does not exist.
	DataDir string `name:"data-dir" group:"Store and nodes" meta:"DIR" help:"directory in which this gateway stores histories, so that they survive a restart or a crash; for one gateway alone"`
	// DataMax bounds the bytes of all histories that are stored, in DataDir or on the servers. The
	// oldest publications are dropped first.
	DataMax int `name:"data-max" group:"Store and nodes" unit:"bytes" default:"10GiB" min:"16MiB" help:"maximum size of all stored histories together, in {DataDir} or on the NATS servers; beyond that, the oldest publications are dropped"`
	// HistorySync is when publications in DataDir are written to the disk itself.
	HistorySync Sync `name:"history-sync" group:"Store and nodes" words:"interval,always" default:"interval" help:"when publications in {DataDir} are flushed to disk (fsync): interval is once a second, so that a power failure can lose the newest ones, which clients are notified of; always is before each one is acknowledged"`
	// NATSURL are the NATS servers that gateways share their channels through, with JetStream for
	// histories. All gateways need the same ones.
	NATSURL []string `name:"nats-url" group:"Store and nodes" meta:"LIST" help:"NATS servers through which several gateways share all channels, with JetStream for histories, such as nats://n1,n2,n3"`
	// NATSCreds and NATSNkey are files with this gateway's credentials for the servers, of which one
	// is enough. NATSTLSCA verifies the servers' certificate, in place of the system's roots;
	// NATSTLSCert and NATSTLSKey are this gateway's own.
	NATSCreds   string `name:"nats-creds" group:"Store and nodes" meta:"FILE" help:"credentials file (JWT and seed) for the NATS servers"`
	NATSNkey    string `name:"nats-nkey" group:"Store and nodes" meta:"FILE" help:"file with an NKey seed for the NATS servers"`
	NATSTLSCA   string `name:"nats-tls-ca" group:"Store and nodes" meta:"FILE" help:"PEM file with the certificate authorities that the NATS servers' certificates must be from; without it, the system's"`
	NATSTLSCert string `name:"nats-tls-cert" group:"Store and nodes" meta:"FILE" help:"PEM file with this gateway's certificate for the NATS servers"`
	NATSTLSKey  string `name:"nats-tls-key" group:"Store and nodes" meta:"FILE" help:"PEM file with the key of {NATSTLSCert}"`
	// NATSPrefix is what the names of streams and subjects begin with, so that several installations
	// can use the same servers.
	NATSPrefix string `name:"nats-prefix" group:"Store and nodes" meta:"TEXT" default:"sluice" help:"what the names of all subjects and streams on the NATS servers begin with; the same for all gateways that share channels"`
	// NATSReplicas is how many servers store each history: 1, 3 or 5.
	NATSReplicas int `name:"nats-replicas" group:"Store and nodes" default:"auto" max:"5" help:"how many NATS servers store each history: 1, 3 or 5; auto: 3 if the servers are a cluster, otherwise 1"`
}

// form returns the form that the settings ask for.
func (s *Store) form() Form {
	switch {
	case len(s.NATSURL) > 0:
		return Servers
	case s.DataDir != "":
		return Disk
	}
	return Memory
}

// FormOf returns the form that settings ask for, and where that is, as an operator reads it.
func FormOf(s *Store) (form Form, where string) { return s.form(), s.where() }

func (s *Store) where() string {
	switch s.form() {
	case Servers:
		var shown []string
		for _, text := range s.urls() {
			shown = append(shown, withoutAccess(text))
		}
		return strings.Join(shown, ",")
	case Disk:
		return s.DataDir
	}
	return "memory"
}

// Descriptors that a form keeps: connections and their successors while they are exchanged; and of the
// embedded server's, which are its files, beside those of each stream.
const (
	serversDescriptors = 16
	diskDescriptors    = 32
	streamDescriptors  = 4
)

// Descriptors returns how many file descriptors the engine keeps, with so many streams.
func Descriptors(s *Store, streams int) int {
	switch s.form() {
	case Servers:
		return serversDescriptors
	case Disk:
		return diskDescriptors + streamDescriptors*streams
	}
	return 0
}

// urls returns the servers' URLs. Without a scheme, an entry has the first one's.
func (s *Store) urls() (all []string) {
	first := "nats"
	for i, text := range s.NATSURL {
		scheme, _, ok := strings.Cut(text, "://")
		switch {
		case ok && i == 0:
			first = scheme
		case !ok:
			text = first + "://" + text
		}
		all = append(all, text)
	}
	return all
}

// dataMaxDefault is DataMax's default. It may be set where nothing is stored.
const dataMaxDefault = 10 << 30

// prefixMax bounds the prefix: it is a part of every subject. The default may be set where there are no servers.
const (
	prefixMax     = 32
	prefixDefault = "sluice"
)

// Validate adds to faults what is wrong with the settings together.
func Validate(s *Store, faults *setting.Faults) {
	if !built && s.form() != Memory {
		field, value := "NATSURL", strings.Join(s.NATSURL, ",")
		if s.form() == Disk {
			field, value = "DataDir", s.DataDir
		}
		faults.Add(field, value, "needs NATS, which this program was built without (-tags nonats)", "use another build")
	}
	if s.DataDir != "" && len(s.NATSURL) > 0 {
		faults.Add("DataDir", s.DataDir, "cannot be combined with {NATSURL}: histories are stored either by this gateway or on the NATS servers", "use only one of them")
	}
	if s.HistorySync == SyncAlways && s.DataDir == "" {
		faults.Add("HistorySync", s.HistorySync, "has no effect without {DataDir}", "remove it; NATS servers have a setting of their own for it (sync_interval)")
	}
	if s.DataMax != dataMaxDefault && s.DataMax != 0 && s.form() == Memory {
		faults.Add("DataMax", setting.FormatSize(s.DataMax), "has no effect without {DataDir} or {NATSURL}", "add one of them, or remove this")
	}
	for i, text := range s.urls() {
		if err := checkURL(text); err != nil {
			faults.Add("NATSURL", withoutAccess(s.NATSURL[i]), setting.Literal(err.Error()), "use nats://HOST:PORT or tls://HOST:PORT")
		}
	}
	s.validateAccess(faults)
	if n := s.NATSReplicas; n != 0 && n != 1 && n != 3 && n != 5 {
		faults.Add("NATSReplicas", n, "is not a number of replicas", "use 1, 3 or 5")
	}
	// Streams have the prefix in upper case, and an underscore behind it.
	if p := s.NATSPrefix; len(p) > prefixMax || strings.HasPrefix(p, "-") || strings.Trim(p, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		faults.Add("NATSPrefix", p, fmt.Sprintf("must be a word of up to %d lower-case letters, digits and '-'", prefixMax), "")
	}
}

// validateAccess checks what the servers are accessed with.
func (s *Store) validateAccess(faults *setting.Faults) {
	for _, x := range []struct{ field, value string }{
		{"NATSCreds", s.NATSCreds}, {"NATSNkey", s.NATSNkey}, {"NATSTLSCA", s.NATSTLSCA}, {"NATSTLSCert", s.NATSTLSCert}, {"NATSTLSKey", s.NATSTLSKey},
	} {
		if x.value != "" && len(s.NATSURL) == 0 {
			faults.Add(x.field, x.value, "has no effect without {NATSURL}", "add that, or remove this")
		}
	}
	if s.NATSPrefix != prefixDefault && s.NATSPrefix != "" && len(s.NATSURL) == 0 {
		faults.Add("NATSPrefix", s.NATSPrefix, "has no effect without {NATSURL}", "add that, or remove this")
	}
	if s.NATSReplicas != 0 && len(s.NATSURL) == 0 {
		faults.Add("NATSReplicas", s.NATSReplicas, "has no effect without {NATSURL}", "add that, or remove this")
	}
	if s.NATSCreds != "" && s.NATSNkey != "" {
		faults.Add("NATSNkey", s.NATSNkey, "cannot be combined with {NATSCreds}, which has a seed of its own", "use only one of them")
	}
	switch {
	case s.NATSTLSCert != "" && s.NATSTLSKey == "":
		faults.Add("NATSTLSCert", s.NATSTLSCert, "needs its key", "add {NATSTLSKey}")
	case s.NATSTLSKey != "" && s.NATSTLSCert == "":
		faults.Add("NATSTLSKey", s.NATSTLSKey, "needs its certificate", "add {NATSTLSCert}")
	}
}

// withoutAccess returns a URL, even a malformed one, without its password or token.
func withoutAccess(text string) string {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		scheme, rest = "", text
	} else {
		scheme += "://"
	}
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		name, _, password := strings.Cut(rest[:i], ":")
		if password {
			name += ":"
		} else { // a token
			name = ""
		}
		rest = name + "xxxxx" + rest[i:]
	}
	return scheme + rest
}

// checkURL returns what is wrong with a server's URL. An error continues it.
func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		if strings.Contains(text, "@") { // the error would show a part of the password
			return errors.New("is not a URL; in a password, characters other than letters and digits must be percent-encoded")
		}
		var wrong *url.Error
		if errors.As(err, &wrong) {
			err = wrong.Err
		}
		return fmt.Errorf("is not a URL (%w)", err)
	}
	switch u.Scheme {
	case "nats", "tls", "ws", "wss":
	default:
		return fmt.Errorf("has the scheme %q, which NATS does not have", u.Scheme)
	}
	if u.Hostname() == "" {
		return errors.New("has no host")
	}
	if u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("has more than a host and a port")
	}
	return nil
}
