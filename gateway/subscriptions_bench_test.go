package gateway

import (
	"fmt"
	"strings"
	"testing"

	"sluice/gateway/clienttest"
)

// BenchmarkCommandOfManySubscriptions is a client with so many subscriptions that sends commands about one of them, and waits
// for each reply. How many others it has must not matter.
func BenchmarkCommandOfManySubscriptions(b *testing.B) {
	for _, n := range []int{1, 32, 128, 1024} {
		for _, of := range []struct {
			what     string
			commands []string
		}{
			{"history", []string{`{"id":9,"history":{"channel":"c%d"}}`}},
			{"publish", []string{`{"id":9,"publish":{"channel":"other","data":1}}`}},
			{"subscribe", []string{`{"id":9,"unsubscribe":{"channel":"c%d"}}`, `{"id":9,"subscribe":{"channel":"c%d"}}`}},
		} {
			b.Run(fmt.Sprintf("subscriptions=%d/%s", n, of.what), func(b *testing.B) {
				s := start(b, Config{PingInterval: -1, ChannelLimit: 1024, JoinRate: -1, Loops: 1})
				does := func(c *clienttest.Client, cmd string) {
					c.Does(cmd)
					if reply := c.Told("a reply"); strings.Contains(reply, `"error"`) {
						b.Fatalf("%s: %s", cmd, reply)
					}
				}
				c, other := member(b, s, ""), member(b, s, "") // channels stay while the other has them
				for i := range n {
					does(other, fmt.Sprintf(`{"id":2,"subscribe":{"channel":"c%d"}}`, i))
					does(c, fmt.Sprintf(`{"id":2,"subscribe":{"channel":"c%d"}}`, i))
				}
				i := 0
				for b.Loop() {
					for _, cmd := range of.commands {
						if of.what != "publish" {
							cmd = fmt.Sprintf(cmd, i%n)
						}
						does(c, cmd)
					}
					i++
				}
			})
		}
	}
}
