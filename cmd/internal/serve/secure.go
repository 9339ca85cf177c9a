package serve

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/option"
	"sluice/gateway/edge/certificate"
)

// Secure is the certificate of TLS listeners.
type Secure struct {
	Config *tls.Config        // nil without TLS
	Store  *certificate.Store // nil for a self-signed certificate, which nothing renews
}

// checkTLS checks that the settings of TLS fit together, and reads the files. Faults are
// usage errors.
func (s *Settings) checkTLS(opts *option.Options, endpoints []Endpoint) (Secure, []error) {
	var faults []error
	fault := func(option, format string, args ...any) {
		faults = append(faults, cli.OptionUsage(option, format, args...))
	}
	files, trial := s.Certificate, s.SelfSigned
	if len(s.TLSListen) == 0 {
		var first string // option
		var idle []string
		for _, f := range []struct{ flag, value string }{
			{"tls-cert", files.Cert}, {"tls-key", files.Key}, {"tls-client-ca", files.ClientCA},
		} {
			if f.value != "" {
				first = cmp.Or(first, f.flag)
				idle = append(idle, "--"+f.flag+" "+f.value)
			}
		}
		have, where := "has", ":8443"
		if trial {
			first = cmp.Or(first, "tls-self-signed")
			idle, where = append(idle, "--tls-self-signed"), "127.0.0.1:8443"
		}
		if len(idle) > 1 {
			have = "have"
		}
		if len(idle) > 0 {
			fault(first, "%s %s no effect without --tls-listen: add an address for TLS clients, such as --tls-listen %s", strings.TrimPrefix(strings.Join(idle, ", "), "--"+first), have, where)
		}
		return Secure{}, faults
	}
	switch {
	case trial && (files.Cert != "" || files.Key != "" || files.ClientCA != ""):
		fault("tls-self-signed", " cannot be combined with certificate files: remove it, or remove --tls-cert, --tls-key and --tls-client-ca")
	case trial:
		for _, e := range endpoints {
			if e.tls && e.Address != "" && !e.local {
				fault("tls-listen", " %s: other machines can reach it, and --tls-self-signed is for trials on loopback; use --tls-cert and --tls-key, or listen on 127.0.0.1", e.Text)
			}
		}
	case files.Cert == "" && files.Key == "":
		fault("tls-listen", " %s needs a certificate: add --tls-cert and --tls-key, or --tls-self-signed for a trial on loopback", strings.Join(s.TLSListen, ","))
	case files.Key == "":
		fault("tls-cert", " %s needs its private key: add --tls-key", files.Cert)
	case files.Cert == "":
		fault("tls-key", " %s needs its certificate: add --tls-cert", files.Key)
	}
	if len(faults) > 0 {
		return Secure{}, faults
	}
	if trial {
		pair, err := certificate.SelfSigned(time.Now())
		if err != nil {
			return Secure{}, []error{cli.OptionError("tls-self-signed", ": %w", err)}
		}
		return Secure{Config: &tls.Config{Certificates: []tls.Certificate{pair}}}, nil
	}
	store, err := certificate.Load(files)
	if err != nil {
		broken := opts.FaultsOf(err)
		pair := pairFault(files) // covers both files at once
		for _, f := range broken {
			if pair == nil || f.Option == "tls-client-ca" {
				faults = append(faults, cli.Usagef("%w", f))
			}
		}
		if pair != nil {
			faults = append(faults, pair)
		}
		return Secure{}, faults
	}
	return Secure{Config: store.Config(), Store: store}, nil
}

// pairFault returns the fault of a certificate and a key that are valid but do not belong
// together, or are swapped; nil for every other fault.
func pairFault(files certificate.Files) error {
	cert, err := os.ReadFile(files.Cert)
	if err != nil {
		return nil // certificate.Load reports it
	}
	key, err := os.ReadFile(files.Key)
	if err != nil {
		return nil // likewise
	}
	inCert, _ := pem.Decode(cert)
	inKey, _ := pem.Decode(key)
	if inCert == nil || inKey == nil {
		return nil
	}
	if strings.HasSuffix(inCert.Type, "PRIVATE KEY") && inKey.Type == "CERTIFICATE" {
		return cli.OptionUsage("tls-cert", " %s contains a private key and --tls-key %s a certificate: swap them", files.Cert, files.Key)
	}
	// Both texts of crypto/tls for it, "private key does not match public key" and
	// "private key type does not match ...": it has no error value to compare with.
	if _, err := tls.X509KeyPair(cert, key); err != nil && strings.Contains(err.Error(), "does not match") {
		return cli.OptionUsage("tls-key", " %s does not match the certificate in %s: use the key that belongs to it", files.Key, files.Cert)
	}
	return nil
}

// watchInterval is how often the certificate files are checked for changes.
const watchInterval = 10 * time.Second

// keepFresh reloads certificates when their files change, until ctx ends.
func (s Secure) keepFresh(ctx context.Context, log *slog.Logger) {
	if s.Store != nil {
		s.Store.Watch(ctx, watchInterval, log)
	}
}

// reload reloads certificates, and logs the result. A failure concerns nothing else: the last good ones stay in use.
func (s Secure) reload(log *slog.Logger) {
	if s.Store == nil {
		return
	}
	if changed, err := s.Store.Reload(); err != nil {
		log.Error("cannot reload the certificates, keeping the current ones", "error", err, "certificate", s.Store)
	} else {
		log.Info("certificates reloaded", "changed", changed, "certificate", s.Store)
	}
}

// describe returns the names in the certificate and its expiry, or for a self-signed one,
// how to connect to the URL at.
func (s Secure) describe(at string) string {
	if s.Store != nil {
		return CertificateText(s.Store)
	}
	if path, ok := strings.CutPrefix(at, "unix:"); ok {
		return fmt.Sprintf("self-signed, for trials only: 'curl -k --unix-socket %s https://localhost/'", path)
	}
	return fmt.Sprintf("self-signed, for trials only: 'curl -k %s' or 'sluice sub --insecure-skip-verify --url %s news'", at, strings.TrimSuffix(at, "/"))
}

// CertificateText returns the names in a certificate and its expiry.
func CertificateText(store *certificate.Store) string {
	return fmt.Sprintf("for %s, until %s", strings.Join(store.Names(), ", "), store.Expiry().UTC().Format(time.RFC3339))
}
