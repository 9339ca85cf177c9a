package serve

import (
	"fmt"
	"os"
	"strings"
	"time"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/option"
	"sluice/gateway"
	"sluice/gateway/event"
	"sluice/gateway/event/webhook"
	"sluice/gateway/hook/proxy"
	"sluice/gateway/setting"
)

// WebhookSettings are the settings of webhooks. All but the URLs hold for each of them.
type WebhookSettings struct {
	URLs     []string      `field:"Webhooks" name:"webhook" group:"Webhooks" meta:"URL" reload:"on SIGHUP" help:"endpoint of the application that is notified of events (repeatable): by default, that a channel has its first subscriber (occupied) or has none any more (vacated)"`
	Events   []string      `field:"WebhookEvents" name:"webhook-events" group:"Webhooks" words:"occupied,vacated,connected,disconnected,subscribed,unsubscribed,publication,cache_empty" default:"occupied,vacated" reload:"on SIGHUP" help:"events that are sent: occupied, vacated, connected, disconnected, subscribed, unsubscribed, publication or cache_empty"`
	Channels []string      `field:"WebhookChannels" name:"webhook-channels" group:"Webhooks" meta:"PATTERN" reload:"on SIGHUP" help:"channels whose events are sent, such as room:* (repeatable); * stands for any text. Without it, those of all channels are. Events without a channel are always sent"`
	Secrets  []string      `field:"WebhookSecrets" name:"webhook-secret-file" group:"Webhooks" meta:"FILE" reload:"on SIGHUP" help:"file with the secret that signs what is sent, as Standard Webhooks has it: whsec_ and 24 to 64 random bytes in base64. Repeatable: sign with the old and the new secret during a rotation. Without it, nothing is signed"`
	Delay    time.Duration `field:"VacatedDelay" name:"webhook-vacated-delay" group:"Webhooks" default:"5s" off:"at once" help:"how long a channel must have no subscribers before it counts as vacated, because a page that is loaded anew leaves its channels for a moment; or off: at once"`
	Queue    int           `field:"WebhookQueue" name:"webhook-queue" group:"Webhooks" default:"64MiB" unit:"bytes" min:"64KiB" reload:"on SIGHUP" help:"memory for the events that wait for one endpoint; if it is used up, they are reduced to the present state of channels"`
	Digest   time.Duration `field:"WebhookDigest" name:"webhook-digest" group:"Webhooks" default:"off" min:"1s" small:"is too short: it would be sent all the time" off:"never" reload:"on SIGHUP" help:"how often each endpoint is sent a list of all channels that have subscribers, so that it can correct what it has missed, such as 5m; or off"`
}

// checkWebhooks reads the options for webhooks into the gateway's configuration.
func (s *Settings) checkWebhooks(opts *option.Options) (warnings []string, faults []error) {
	set := &s.Webhooks
	given := func(flag string) bool { return opts.ByName[flag].Source.Kind != option.FromDefault }
	for _, f := range opts.FaultsOf(asError(setting.Bounds(set))) {
		faults = append(faults, cli.Usagef("%w", f))
	}
	types, err := event.ParseTypes(set.Events)
	if err != nil {
		faults = append(faults, cli.OptionUsage("webhook-events", ": %w", err))
	}
	secrets, more := readWebhookSecrets(set.Secrets)
	faults = append(faults, more...)
	if len(set.URLs) == 0 {
		for _, flag := range []string{"webhook-events", "webhook-channels", "webhook-secret-file", "webhook-queue", "webhook-digest"} {
			if given(flag) {
				faults = append(faults, cli.OptionUsage(flag, " %s: there is no webhook that it is for; add --webhook, or remove it", opts.ByName[flag].Text))
			}
		}
	}
	s.Gateway.Webhooks, s.Gateway.VacatedDelay = nil, set.Delay
	for _, url := range set.URLs {
		s.Gateway.Webhooks = append(s.Gateway.Webhooks, gateway.Webhook{URL: url, Secrets: strings.Join(secrets, "\n"), EventOptions: gateway.EventOptions{
			Types: types, Channels: strings.Join(set.Channels, ","), Queue: set.Queue, Digest: max(set.Digest, 0),
		}})
		if len(secrets) == 0 && len(set.Secrets) == 0 && proxy.CheckEndpoint(url) == nil {
			warnings = append(warnings, fmt.Sprintf("--webhook %s: what is sent is not signed, so that anybody who reaches the endpoint can send it events; use --webhook-secret-file", cli.RedactURL(url)))
		}
	}
	return warnings, faults
}

// webhookSecrets returns the secrets that sign what is sent, which are the same for all endpoints.
func (s *Settings) webhookSecrets() string {
	if len(s.Gateway.Webhooks) == 0 {
		return ""
	}
	return s.Gateway.Webhooks[0].Secrets
}

// asError returns faults as an error, nil for none.
func asError(faults setting.Faults) error {
	if len(faults) == 0 {
		return nil
	}
	return faults
}

// readWebhookSecrets reads the secrets in files.
func readWebhookSecrets(files []string) (secrets []string, faults []error) {
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			faults = append(faults, cli.OptionUsage("webhook-secret-file", " %s: %w; use a file with a secret on one line", file, cli.BareError(err)))
			continue
		}
		text := strings.TrimSpace(string(data))
		if _, err := webhook.ParseSecret(text); err != nil {
			faults = append(faults, cli.OptionUsage("webhook-secret-file", " %s: %w", file, err))
			continue
		}
		secrets = append(secrets, text)
	}
	return secrets, faults
}
