package migration

import (
	"slices"
	"strings"
	"time"

	"sluice/gateway/access/auth"
)

// keySettings are the settings for keys that verify tokens.
var keySettings = []string{"token-hmac-secret-file", "token-public-key-file", "jwks-url"}

// tokens converts client.token. Where sluice cannot check what Centrifugo checks, the keys are
// comments, so that no token is accepted that was not before.
func (c *conversion) tokens() {
	t := c.root.get("client.token")
	closed := c.restrictions(t)
	add := func(n *node, name, value string) {
		switch err := c.settable(name, value); {
		case err != nil:
			n.mark(lost, "%v", err)
		case closed != "":
			c.suggest(name, value)
			n.mark(lost, "%s is a comment in %s, because of %s", name, confFile, closed)
		default:
			c.must(name, value)
			n.mark(kept, "%s", name)
		}
	}
	for _, k := range []struct{ key, file string }{
		{"hmac_secret_key", "token-secret"}, {"hmac_previous_secret_key", "token-secret-previous"},
	} {
		n := t.get(k.key)
		secret, err := n.text()
		if err == nil && secret == "" {
			n.mark(idle, "off")
			continue
		}
		if err == nil {
			err = auth.CheckSecret([]byte(secret))
		}
		if trimmed := strings.TrimRight(secret, "\r\n"); err == nil && trimmed != secret {
			n.mark(lost, "it ends with a line break, which a file of sluice's cannot express")
			continue
		}
		if err != nil {
			n.mark(lost, "%v; and use the new one in your backend", err)
			continue
		}
		if k.key == "hmac_previous_secret_key" && c.past(t.get("hmac_previous_secret_key_valid_until"), n) {
			continue
		}
		add(n, "token-hmac-secret-file", c.file(k.file, []byte(secret)))
	}
	t.get("hmac_previous_secret_key_valid_until").mark(idle, "there is no previous secret")
	for _, k := range []struct{ key, file string }{{"rsa_public_key", "token-rsa.pem"}, {"ecdsa_public_key", "token-ecdsa.pem"}} {
		n := t.get(k.key)
		text, err := n.text()
		if err == nil && text == "" {
			n.mark(idle, "off")
			continue
		}
		if err == nil {
			err = auth.CheckPublicKey([]byte(text))
		}
		if err != nil {
			n.mark(lost, "%v", err)
			continue
		}
		add(n, "token-public-key-file", c.file(k.file, []byte(text)))
	}
	n := t.get("jwks_public_endpoint")
	switch url, err := n.text(); {
	case err == nil && url == "":
		n.mark(idle, "off")
	case err == nil && strings.Contains(url, "{{"):
		n.mark(lost, "a URL with parts from the token, which is not verified yet, is not supported (CVE-2026-32301 was about them); name one URL in jwks-url")
	case err != nil:
		n.mark(lost, "%v", err)
	default:
		if err := auth.CheckJWKSURL(url); err != nil {
			n.mark(lost, "%v", err)
		} else {
			add(n, "jwks-url", url)
		}
	}
	keyed := slices.ContainsFunc(c.settings, func(s setting) bool { return !s.comment && slices.Contains(keySettings, s.name) })
	for _, x := range []struct{ key, option string }{{"audience", "token-audience"}, {"issuer", "token-issuer"}} {
		n := t.get(x.key)
		text, err := n.text()
		switch {
		case err == nil && text == "":
			n.mark(idle, "off")
		case err == nil && !keyed:
			c.suggest(x.option, text)
			n.mark(lost, "%s is a comment in %s, because there is no key", x.option, confFile)
		default:
			if err == nil {
				err = c.set(x.option, text)
			}
			if err != nil {
				n.mark(lost, "%v", err)
				c.closeKeys(n.path)
				break
			}
			n.mark(kept, "%s", x.option)
		}
	}
	c.subscriptionTokens(t)
}

// restrictions returns what restricts tokens and has no equivalent, or "".
func (c *conversion) restrictions(t *node) (path string) {
	for _, x := range []struct{ key, text string }{
		{"audience_regex", "sluice compares audiences with one text, token-audience"},
		{"issuer_regex", "sluice compares issuers with one text, token-issuer"},
		{"user_id_claim", "the user is always in the claim sub"},
	} {
		if n := t.get(x.key); !n.off() {
			n.mark(lost, "%s", x.text)
			c.advise("%s: %s. Tokens could mean something else without it, so the keys that verify them are comments in %s; remove the # if they may", n.path, x.text, confFile)
			path = n.path
		}
		t.get(x.key).mark(idle, "off")
	}
	t.get("insecure_skip_jwks_endpoint_safety_check").lose("the URL of a key set is always checked")
	return path
}

// settable returns an error if a setting cannot have a value.
func (c *conversion) settable(name, value string) error {
	defer c.retry()
	return c.try(name, value)
}

// closeKeys makes comments of all keys.
func (c *conversion) closeKeys(why string) {
	for i, s := range c.settings {
		if slices.Contains(keySettings, s.name) || s.name == "token-audience" || s.name == "token-issuer" {
			c.settings[i].comment = true
		}
	}
	c.advise("%s could not be carried over, so the keys that verify tokens are comments in %s", why, confFile)
}

// past reports whether the previous secret is no longer valid.
func (c *conversion) past(until, secret *node) bool {
	seconds, err := until.number()
	switch {
	case until.null() || err == nil && seconds == 0:
		until.mark(idle, "off")
		return false
	case err == nil && c.now.Unix() > seconds:
		secret.mark(idle, "it is not valid any more")
		until.mark(idle, "it has passed")
		return true
	case err != nil:
		secret.mark(lost, "how long it is valid cannot be read")
		until.mark(lost, "%v", err)
		return true
	}
	at := time.Unix(seconds, 0).UTC().Format(time.RFC3339)
	until.mark(lost, "a secret is valid for as long as sluice.conf has it")
	c.advise("remove the second token-hmac-secret-file at %s, until which it is valid", at)
	return false
}

// subscriptionTokens converts client.subscription_token. sluice has one set of keys: those of
// subscription tokens alone would sign connection tokens too.
func (c *conversion) subscriptionTokens(t *node) {
	s := c.root.get("client.subscription_token")
	if !s.get("enabled").on() {
		s.mark(idle, "client.subscription_token is off: the keys in client.token are for both kinds of tokens")
		return
	}
	same := true
	s.leaves(func(leaf *node) {
		if leaf.key == "enabled" || leaf.off() {
			return
		}
		mine, _ := leaf.text()
		other, _ := t.get(leaf.key).text()
		same = same && mine == other
	})
	t.leaves(func(leaf *node) { same = same && (leaf.off() || s.get(leaf.key) != nil) })
	if same {
		s.mark(kept, "the keys are those in client.token")
		return
	}
	s.mark(lost, "sluice has the same keys for both kinds of tokens; sign subscription tokens with a key in client.token, or add this key if its holder may sign connection tokens too")
	c.advise("subscription tokens are refused if their key is only in client.subscription_token")
}
