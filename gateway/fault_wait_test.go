//go:build faults

package gateway

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/gateway/access/auth"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine/enginetest"
	"sluice/gateway/loop"

	"github.com/google/go-cmp/cmp"
)

// A panic of a command that waits, when it goes on, is late or is cancelled, costs its connection
// alone, and leaves nothing over.
func TestFaultPanicsOfCommandsThatWait(t *testing.T) {
	t.Cleanup(func() { loop.Planted.Store(nil) })
	commands := map[string]string{
		"subscribe to a channel that attaches": `{"id":7,"subscribe":{"channel":"users:y"}}`,
	}
	for _, w := range waitingCommands {
		commands[w.name] = w.command
	}
	for name, command := range commands {
		for how, place := range map[string]string{"goes on": "answer", "is late": "answer", "is cancelled": "cancel"} {
			t.Run(name+" "+how, func(t *testing.T) {
				keys := holdKeySet(t)
				cfg := keys.config(t)
				cfg.PingInterval = -1
				store, servers := startLate(t, 1, cfg, 1, enginetest.Trouble{Delay: time.Millisecond}, false)
				s := servers[0]
				other := member(t, s, tokens(t, auth.Claims{User: "other"}))
				other.Joins("users:x")
				newest := s.newest()
				c := member(t, s, tokens(t, auth.Claims{User: "42"}))
				victim := s.newest()
				c.Joins("clients:x")
				c.Joins("look:x")
				resume := store.Stall()
				command := command // signed with this server's key
				if strings.Contains(command, "%s") {
					claims := auth.Claims{User: "42"}
					if strings.Contains(command, "shut:x") {
						claims.Channel = "shut:x"
					}
					command = fmt.Sprintf(command, clienttest.SignedBy(t, keys.key, claims))
				}
				c.Send(clienttest.Text(command + "\n" + `{"id":8,"ping":{}}`))
				clienttest.WaitFor(t, "it to wait", func() (parked bool) {
					s.Each(func(c *loop.Conn) { parked = parked || c.Parked() })
					return parked
				})
				hit := arm(place, newest)
				switch how {
				case "goes on":
					keys.release()
					resume()
				case "is late":
					s.Pass(5)
				default:
					askHTTP(t, "POST", fmt.Sprintf("%s/api/connections/%d/close", s.internal("").URL, victim), nil)
				}
				clienttest.WaitFor(t, "it to come by "+place, hit.Load)
				c.Conn.Close() // ignored: it has ended on the other side
				s.wantConnections(1)
				keys.release()
				resume()
				s.publish("users:x", `1`)
				if got := other.Told("it goes on"); !strings.Contains(got, `"data":1`) {
					t.Errorf("got %s", got)
				}
				clienttest.WaitFor(t, "its channels to end", func() bool { return len(store.Attached()) == 1 })
				s.Quiet()
				if diff := cmp.Diff([]string{"users:x"}, store.Attached()); diff != "" {
					t.Errorf("attached (-want +got):\n%s", diff)
				}
				if s.panics() != 1 || s.Held() != 0 || s.space.Channels() != 1 {
					t.Errorf("%d panics, %d bytes are held, %d channels", s.panics(), s.Held(), s.space.Channels())
				}
			})
		}
	}
}
