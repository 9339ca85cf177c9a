package clienttest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"
)

var variable = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}|"epoch":"[0-9a-z]+"`)

func Constant(p string) string {
	return variable.ReplaceAllStringFunc(p, func(found string) string {
		if strings.HasPrefix(found, `"epoch"`) {
			return `"epoch":"E"`
		}
		return "ID"
	})
}

// Does sends commands, each in a frame of its own.
func (c *Client) Does(commands ...string) {
	c.T.Helper()
	for _, cmd := range commands {
		c.Send(Text(cmd))
	}
}

// Told reads a message of the protocol, passing over pings, and gives it as it came.
func (c *Client) Told(why string) string {
	c.T.Helper()
	for {
		op, p, err := c.Next()
		switch {
		case err != nil || op != ws.OpText:
			c.T.Fatalf("%s: got %v, a frame of opcode %#x with %s", why, err, op, Brief(p))
		case p != "{}":
			return p
		}
		c.Does("{}")
	}
}

// WantTold reads a message and compares it.
func (c *Client) WantTold(why, want string) string {
	c.T.Helper()
	got := c.Told(why)
	if Constant(got) != want {
		c.T.Fatalf("%s:\n got %s\nwant %s", why, Constant(got), want)
	}
	return got
}

// Connects sends the first command and reads its reply.
func (c *Client) Connects(token string) (reply string) {
	c.T.Helper()
	cmd, _ := json.Marshal(map[string]any{"id": 1, "connect": map[string]any{"token": token}}) // cannot fail
	c.Does(string(cmd))
	if reply = c.Told("connect"); !strings.Contains(reply, `"client":"`) {
		c.T.Fatalf("connect: got %s", reply)
	}
	return reply
}

// Joins subscribes to a channel, with further fields of the command, and gives the reply.
func (c *Client) Joins(name string, fields ...string) (reply string) {
	c.T.Helper()
	c.Does(fmt.Sprintf(`{"id":2,"subscribe":{%s}}`, strings.Join(append(fields, fmt.Sprintf(`"channel":%q`, name)), ",")))
	if reply = c.Told("subscribe to " + name); !strings.Contains(reply, `{"id":2,"subscribe":`) {
		c.T.Fatalf("subscribe to %s: got %s", name, reply)
	}
	return reply
}

// Subscribed is the reply to a subscribe command, as far as recovery goes.
type Subscribed struct {
	ID        int `json:"id"`
	Subscribe *struct {
		Epoch        string `json:"epoch"`
		Offset       uint64 `json:"offset"`
		Recovered    bool   `json:"recovered"`
		Recovering   bool   `json:"was_recovering"`
		Publications []pub  `json:"publications"`
	} `json:"subscribe"`
	Push *struct {
		Channel     string `json:"channel"`
		Pub         *pub   `json:"pub"`
		Unsubscribe *struct {
			Code int `json:"code"`
		} `json:"unsubscribe"`
	} `json:"push"`
	Error *struct {
		Code int `json:"code"`
	} `json:"error"`
}

type pub struct {
	Data   json.RawMessage `json:"data"`
	Offset uint64          `json:"offset"`
}

func (c *Client) Reads(why string) (r Subscribed) {
	c.T.Helper()
	text := c.Told(why)
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		c.T.Fatalf("%s: %s: %v", why, text, err)
	}
	return r
}

// Recovers subscribes from a position.
func (c *Client) Recovers(name, epoch string, offset uint64) Subscribed {
	c.T.Helper()
	c.Does(fmt.Sprintf(`{"id":7,"subscribe":{"channel":%q,"recover":true,"epoch":%q,"offset":%d}}`, name, epoch, offset))
	r := c.Reads("recover " + name)
	if r.Subscribe == nil {
		c.T.Fatalf("recover %s: %+v", name, r)
	}
	return r
}

// ReadsOn reads n publications that follow a position, and gives the last one's.
func (c *Client) ReadsOn(at uint64, n int) uint64 {
	for range n {
		at = c.Follows(at, *c.Reads("a publication").Push.Pub)
	}
	return at
}

// Follows sees that a publication is the next.
func (c *Client) Follows(at uint64, p pub) uint64 {
	if want := at + 1; p.Offset != want || string(p.Data) != strconv.FormatUint(want, 10) {
		c.T.Errorf("publication %d, %s follows %d", p.Offset, p.Data, at)
	}
	return p.Offset
}

func (c *Client) SendsProtobuf(commands ...*protocol.Command) {
	c.T.Helper()
	var frame []byte
	for _, cmd := range commands {
		data, err := cmd.MarshalVT()
		if err != nil {
			c.T.Fatal(err)
		}
		frame = append(append(frame, byte(len(data))), data...) // all are short
	}
	c.Send(Bin(string(frame)))
}

func (c *Client) ReadsProtobuf(t testing.TB) *protocol.Reply {
	t.Helper()
	op, p, err := c.Next()
	if err != nil || op != ws.OpBinary {
		t.Fatalf("opcode %#x, %v", op, err)
	}
	r, err := protocol.NewProtobufReplyDecoder([]byte(p)).Decode()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Pushed reads the data of the next event of a stream that has any.
func (c *Client) Pushed(t testing.TB) string {
	t.Helper()
	for {
		c.Patience()
		line, err := c.In.ReadString('\n')
		if err != nil {
			t.Fatalf("an event: %v", err)
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok && data != "{}\n" {
			if blank, err := c.In.ReadString('\n'); err != nil || blank != "\n" {
				t.Fatalf("an event ends with %q, %v", blank, err)
			}
			return strings.TrimSuffix(data, "\n")
		}
	}
}
