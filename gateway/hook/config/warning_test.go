package config

import "testing"

func TestWhatIsProbablyAMistake(t *testing.T) {
	subscribe := func(more string) *Config {
		return parsed(t, `{"channel": {"proxy": {"subscribe": {"endpoint": "https://a.example/hook", `+more+`}}}}`)
	}
	lines(t, subscribe(`"http_headers": ["Cookie"], "http": {"static_headers": {"X-Key": "1"}, "tls": {"enabled": true}}`).Warnings())
	lines(t, subscribe(`"http": {"tls": {"enabled": true, "insecure_skip_verify": true}}`).Warnings(),
		"channel.proxy.subscribe: insecure_skip_verify: any machine between the gateway and the backend")
	lines(t, subscribe(`"http_headers": ["X-User"], "emulated_headers": ["x-user"], "http": {"static_headers": {"X-USER": "1"}}`).Warnings(),
		"channel.proxy.subscribe: X-USER is a static header and is also passed on", "channel.proxy.subscribe: x-user is among the headers of the request")
	var none *Config
	lines(t, none.Warnings())
}
