package proxy

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEndpointsThatCannotBeCalled(t *testing.T) {
	for endpoint, want := range map[string]string{
		"":                                      "there is no endpoint",
		"grpc://backend:10000":                  "gRPC endpoint is not supported",
		"backend:10000":                         "takes an endpoint for gRPC",
		"127.0.0.1:3000/hook":                   "takes an endpoint for gRPC",
		"ftp://u:secret@backend":                "not an http:// or https:// URL",
		"http://":                               "no host",
		"http:///hook":                          "no host",
		"http://backend/#x":                     "fragment",
		"http://u:secret\x00@backend":           "not an http:// or https:// URL",
		"http://169.254.169.254/latest":         "169.254.169.254 is an address at which clouds serve credentials",
		"https://[fd00:ec2::254]:80/":           "fd00:ec2::254 is an address",
		"http://[::ffff:169.254.169.254]":       "is an address",
		"http://[::ffff:a9fe:a9fe%25eth0]/":     "is an address",
		"http://[64:ff9b::169.254.169.254]:80/": "is an address",
	} {
		err := CheckEndpoint(endpoint)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", endpoint, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: a password in %v", endpoint, err)
		}
		if _, err := New(Config{Endpoint: endpoint}); err == nil {
			t.Errorf("%q: New accepts it", endpoint)
		}
	}
	for _, endpoint := range []string{"http://backend:3000/hook?a=b", "https://u:p@backend", "HTTP://10.0.0.1", "http://[::1]:1/", "http://169.254.1.1"} {
		if err := CheckEndpoint(endpoint); err != nil {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
}

func TestCredentialsOfAURL(t *testing.T) {
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) })
	h := endpoint(t, Config{Endpoint: strings.Replace(b.URL, "http://", "http://me:secret@", 1) + "/hook?key=hidden"}).Subscribe()
	defer h.Close()
	_, err := call(t, h, subscribing("news"))
	if err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "hidden") || strings.Contains(err.Error(), "me:") {
		t.Errorf("the error is %v", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if diff := cmp.Diff([]string{"Basic bWU6c2VjcmV0"}, b.header["Authorization"]); diff != "" {
		t.Error(diff)
	}
}
