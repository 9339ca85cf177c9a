package serve

import (
	"time"

	"sluice/gateway"
	"sluice/gateway/edge/certificate"
)

// Settings are everything that `serve` can be configured with: the gateway's configuration and
// what the command itself needs (package setting). Rows of a group follow each other.
type Settings struct {
	Listen         []string `name:"listen" group:"Listeners" meta:"ADDR" default:"127.0.0.1:8000" off:"TLS only" help:"address for clients: HOST:PORT or unix:/path (repeatable), or off to serve TLS only"`
	InternalListen string   `field:"ServeInternal" name:"internal-listen" group:"Listeners" meta:"ADDR" default:"127.0.0.1:9000" off:"no internal listener" help:"address for publishing over HTTP, the server API, metrics, health and profiles: HOST:PORT or unix:/path, or off"`
	APIKeyFile     string   `field:"APIKey" name:"api-key-file" group:"Listeners" meta:"FILE" reload:"on SIGHUP" help:"file with the API key that the internal listener requires; mandatory when other machines can reach it"`

	TLSListen   []string `name:"tls-listen" group:"TLS" meta:"ADDR" help:"address for clients over TLS: HOST:PORT or unix:/path (repeatable), in addition to {Listen}"`
	Certificate certificate.Files
	SelfSigned  bool `name:"tls-self-signed" group:"TLS" default:"off" help:"generate a self-signed certificate at startup; for trials on loopback only"`

	Gateway gateway.Config // Plan settles Raw

	Namespaces      string   `name:"namespaces" group:"Channels and permissions" meta:"FILE" reload:"on SIGHUP" help:"JSON file with options by channel: history, presence and permissions, in the format of \"channel\" in Centrifugo's configuration. It replaces {History} and {HistoryTTL}"`
	HMACSecretFiles []string `name:"token-hmac-secret-file" group:"Channels and permissions" meta:"FILE" reload:"on SIGHUP" help:"file with the secret that signs tokens (HS256, HS384, HS512); 'sluice token secret' generates one. Repeatable: accept the old and the new secret during a rotation"`
	PublicKeyFiles  []string `name:"token-public-key-file" group:"Channels and permissions" meta:"FILE" reload:"on SIGHUP" help:"PEM file with public keys that verify tokens: RS256, RS384, RS512, ES256, ES384, ES512 or EdDSA (repeatable)"`
	JWKSURL         string   `name:"jwks-url" group:"Channels and permissions" meta:"URL" reload:"on SIGHUP" help:"URL of a key set (JWKS) with public keys that verify tokens"`
	Audience        string   `name:"token-audience" group:"Channels and permissions" meta:"TEXT" reload:"on SIGHUP" help:"audience (aud) that tokens must have"`
	Issuer          string   `name:"token-issuer" group:"Channels and permissions" meta:"TEXT" reload:"on SIGHUP" help:"issuer (iss) that tokens must have"`
	Insecure        bool     `name:"insecure" group:"Channels and permissions" default:"off" help:"allow every client to do everything, and do not verify tokens; for trials on loopback only"`

	Hooks HookSettings

	Webhooks WebhookSettings

	ShutdownTimeout time.Duration `name:"shutdown-timeout" group:"Timeouts" default:"30s" reload:"on SIGHUP" help:"time limit for stopping after SIGINT or SIGTERM: {DrainDelay}, {DrainDuration}, and the closing handshakes. Connections that are left are cut off"`
	UpgradeTLS      time.Duration `name:"upgrade-tls" group:"Timeouts" default:"10s" reload:"on SIGHUP" help:"after an upgrade ('sluice upgrade', SIGUSR2), time over which clients with TLS are told to reconnect to the new process; all other clients stay connected"`

	LogLevel  string `name:"log-level" group:"Logging" words:"debug,info,warn,error" default:"info" reload:"on SIGHUP" help:"lowest level to log: debug, info, warn or error"`
	LogFormat string `name:"log-format" group:"Logging" words:"auto,text,json" default:"auto" help:"format of the log: text, json or auto (text on a terminal, JSON otherwise)"`

	Config string `name:"config" group:"Configuration" meta:"FILE" help:"configuration file with lines 'key = value'; keys are these flags without the dashes. A # at the start of a line or after a space begins a comment. Put a value that contains # or begins or ends with spaces in double quotes (Go string syntax). A list may be repeated or separated by commas; any other key may be set only once"`

	ReloadOnChange bool `name:"reload-on-change" group:"Configuration" default:"off" reload:"on SIGHUP" help:"reload the configuration when its files change, as after SIGHUP or 'sluice reload'; also when links are swapped, as Kubernetes does with ConfigMaps and Secrets"`
}
