package bench

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// audience is who the clients of Centrifugo's protocol are, and what they subscribe to.
type audience struct {
	dialect  dialect
	channels []*channel // client i subscribes to the one with the number i % len
	later    bool       // instead to none, until Idle says so
	token    string     // of all of them
	secret   []byte     // instead: signs a token for each

	since []position // by channel: where all of them come back from; nil: they are new
}

// plainName is a channel's name that needs no escapes, in JSON or in paths.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,200}$`)

// streamsMost is how many streams a stamp can tell apart.
const streamsMost = 1 << 16

// audience checks what concerns the clients; nil in other protocols than Centrifugo's.
func (o *Options) audience(f *Faults) *audience {
	a := &audience{dialect: o.Protocol.dialect(), token: o.Token}
	if a.dialect == nil {
		if o.Token != "" || o.TokenSecretFile != "" {
			f.Add("--token and --token-hmac-secret-file need the Centrifugo protocol: leave them out, or use --protocol centrifugo")
		}
		if o.Channels > 1 {
			f.Add("--channels needs --protocol centrifugo: with the other protocols, the channel is part of the path")
		}
		return nil
	}
	if o.Hello != "" {
		f.Add("--hello does not work with the Centrifugo protocol: leave it out")
	}
	if !plainName.MatchString(o.Channel) {
		f.Add("--channel is %q: use letters, digits and _ . : - only", o.Channel)
	}
	f.Between("--channels", o.Channels, 1, o.channelsMost())
	a.channels = o.channelNames()
	if o.TokenSecretFile != "" {
		secret, err := os.ReadFile(o.TokenSecretFile)
		a.secret = bytes.TrimSpace(secret)
		switch {
		case err != nil:
			f.Add("--token-hmac-secret-file: %v; specify a file with the secret that the server verifies tokens with", err)
		case len(a.secret) == 0:
			f.Add("--token-hmac-secret-file %s is empty: it must contain the secret that the server verifies tokens with", o.TokenSecretFile)
		case o.Token != "":
			f.Add("--token and --token-hmac-secret-file cannot be combined")
		}
	}
	return a
}

// channelsMost bounds Channels.
func (o *Options) channelsMost() int {
	if o.unstamped {
		return 1 << 20 // it is only a bound
	}
	return streamsMost
}

// channelNames returns NAME, or NAME0 to NAMEn when there are many.
func (o *Options) channelNames() []*channel {
	if o.Channels == 1 {
		return []*channel{newChannel(o.Channel)}
	}
	var list []*channel
	for i := range min(o.Channels, o.channelsMost()) {
		list = append(list, newChannel(o.Channel+strconv.Itoa(i)))
	}
	return list
}

// tokenLife is longer than any run.
const tokenLife = 24 * time.Hour

// tokenOf returns the token of a client, whose user is its number.
func (a *audience) tokenOf(client int) (string, error) {
	if a.secret == nil {
		return a.token, nil
	}
	now := time.Now()
	t, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{
		Subject: strconv.Itoa(client), IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(tokenLife)),
	}).SignedString(a.secret)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return t, nil
}

// stream returns the number of a client's channel.
func (a *audience) stream(client int) int {
	if a == nil {
		return 0
	}
	return client % len(a.channels)
}

// round returns how many clients before this one have the same channel. It is by this number that
// clients go to nodes, so that each channel has subscribers on all of them.
func (a *audience) round(client int) int {
	if a == nil {
		return client
	}
	return client / len(a.channels)
}

// session returns a client with the commands that it begins with.
func (a *audience) session(client int) (*session, error) {
	if a == nil {
		return nil, nil
	}
	s := newClientSession(a.dialect)
	token, err := a.tokenOf(client)
	if err != nil {
		return nil, err
	}
	s.connect(token)
	if a.later {
		return s, nil
	}
	i := a.stream(client)
	var since *position
	if a.since != nil {
		since = &a.since[i]
	}
	s.join(a.channels[i], since)
	return s, nil
}
