package gateway

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"sluice/gateway/clienttest"
	"sluice/gateway/hooktest"
	"sluice/gateway/ops"
)

// expires has clients of each way whose time, or that of their subscription, is over, and sees what the answers come to.
// name is of what the word is part of: the session or the channel.
func expires(t *testing.T, url, event string, never, end, again []string, column func(string) bool, name func(word string, i int) (session, channel string), ended func(column, channel string) string) {
	s := start(t, Config{Hooks: hooksOf(t, fmt.Sprintf(hooksFile, url)), PingInterval: -1})
	s.Pass(0) // the clock stands
	type client struct {
		*speaks
		why, who string
		column   string
		channel  string
	}
	var all, stays, goes []client
	for kind, words := range map[string][]string{"never": never, "end": end, "again": again} {
		for _, word := range words {
			for _, way := range ways {
				if !column(way.column) {
					continue
				}
				session, channel := name(word, len(all))
				c := client{way.open(t, s, session, channel), way.name + ", " + word, "user=" + session + " channel=" + channel, way.column, channel}
				if got := c.next(); got != "in" {
					t.Fatalf("%s: %s", c.why, got)
				}
				if event == "refresh" {
					c.who = "user=" + session
				} else if way.column == "Centrifugo" {
					c.send(fmt.Sprintf(`{"id":2,"subscribe":{"channel":%q}}`, channel))
					if got := c.next(); !strings.HasPrefix(got, "subscribed") {
						t.Fatalf("%s: %s", c.why, got)
					}
				}
				all = append(all, c)
				if kind == "end" {
					goes = append(goes, c)
				} else {
					stays = append(stays, c)
				}
			}
		}
	}
	asked := make(map[string]int)
	pass := func(why string, holds func() bool) {
		t.Helper()
		clienttest.WaitFor(t, why, func() bool {
			// Not while somebody is asked, or the time of those whose backend is slow would be over.
			if !slices.ContainsFunc(snapshotHooks(s.live.Load().Hooks), func(h ops.Hook) bool { return h.InFlight+h.Queued > 0 }) {
				s.Pass(1)
			}
			for _, line := range hooktest.Asked(t, url) {
				if strings.HasPrefix(line, "malformed") {
					t.Error(line)
				}
				if strings.HasPrefix(line, event+" ") {
					_, who, _ := strings.Cut(line, "/json ")
					asked[strings.TrimSuffix(who, " tenant=4")]++
				}
			}
			return holds()
		})
	}
	pass("all to be asked about", func() bool { return len(asked) == len(all) })
	for _, c := range goes {
		if got, want := c.next(), ended(c.column, c.channel); got != want {
			t.Errorf("%s: %q, want %q", c.why, got, want)
		}
		c.Vanish()
	}
	s.wantConnections(int64(len(stays)))
	pass("the failures to be asked about again", func() bool {
		for _, c := range all {
			for _, word := range again {
				if strings.Contains(c.who, "@"+word+"-") && asked[c.who] < 2 {
					return false
				}
			}
		}
		return true
	})
	for _, c := range all {
		if _, ok := asked[c.who]; !ok {
			t.Errorf("%s: not asked about %s, but %v", c.why, c.who, asked)
		}
		for _, word := range append(never, end...) {
			if strings.Contains(c.who, "@"+word+"-") && asked[c.who] != 1 {
				t.Errorf("%s: asked %d times", c.why, asked[c.who])
			}
		}
	}
	for _, c := range stays {
		want := "in"
		switch c.column {
		case "raw":
			c.Write(clienttest.Ping("in?"))
		case "Centrifugo":
			c.send(`{"id":9,"ping":{}}`)
			want = "pong"
		case "SSE":
			s.publish(c.channel, c.why)
			want = c.why
		}
		if c.column != "unidirectional" {
			if got := c.next(); got != want {
				t.Errorf("%s: %q, want %q", c.why, got, want)
			}
		}
		c.Vanish()
	}
}

// undecided are the answers to what has expired that say nothing.
var undecided = []string{"fails", "created", "none", "redirect", "busy", "broken", "text", "number"}

// What each answer about a connection whose time is over comes to.
func TestBackendsDecideWhoMayStay(t *testing.T) {
	eachBackend(t, func(t *testing.T, url string) {
		expires(t, url, "refresh", []string{"+1000"}, []string{"nothing", "empty", "null", "nulls", "expired", "error", "disconnect", "all"}, undecided,
			func(string) bool { return true },
			func(word string, i int) (session, channel string) {
				return fmt.Sprintf("ann%d@%s-+5", i, word), fmt.Sprint("x", i)
			},
			func(string, string) string { return "close 3005 connection expired" })
	})
}

// What each answer about a subscription whose time is over comes to.
func TestBackendsDecideAboutSubscriptionsThatExpire(t *testing.T) {
	eachBackend(t, func(t *testing.T, url string) {
		expires(t, url, "sub_refresh", []string{"+1000", "nothing", "nulls", "all"}, []string{"empty", "null", "expired", "error", "disconnect"}, undecided,
			func(column string) bool { return column != "unidirectional" },
			func(word string, i int) (session, channel string) { return "ann", fmt.Sprintf("x%d@%s-+5", i, word) },
			func(column, channel string) string {
				if column == "Centrifugo" {
					return "unsubscribed " + channel + " 2501"
				}
				return "close 3005 connection expired"
			})
	})
}
