package bench

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/centrifugal/protocol"
	"github.com/golang-jwt/jwt/v5"
	"github.com/gorilla/websocket"
)

// clientServer is a small server of Centrifugo's client protocol in both forms, with
// channels that keep all. It can be told to go wrong.
type clientServer struct {
	*httptest.Server
	wrong      func(offset int, pub *protocol.Publication) []*protocol.Publication // what a subscriber gets live instead; nil: the publication
	recover    func(pubs []*protocol.Publication) []*protocol.Publication          // what a client that comes back gets instead
	publishing func(*protocol.PublishRequest) *protocol.Reply                      // what a client that publishes gets instead; nil: it is published
	plain      bool                                                                // channels have no positions
	kept       int                                                                 // how many a client can recover; 0: all
	secret     string                                                              // tokens must be signed with it
	refuses    string                                                              // a channel to which nobody may subscribe

	mu       sync.Mutex
	channels map[string]*clientChannel
	clients  map[*wireClient]bool
	users    map[string]int // connections by the token's user
	commands int
	pongs    int
	stray    bool // a publication comes after the reply to unsubscribe
}

type clientChannel struct {
	log  []*protocol.Publication
	subs map[*wireClient]bool
}

// wireClient is a connection; the server's mu guards it.
type wireClient struct {
	ws     *websocket.Conn
	binary bool
}

const clientEpoch = "xyz"

func newClientServer(t *testing.T) *clientServer {
	s := &clientServer{channels: map[string]*clientChannel{}, users: map[string]int{}, clients: map[*wireClient]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/connection/websocket", s.serve)
	mux.HandleFunc("/ws/{channel}", s.raw)
	mux.HandleFunc("POST /publish/{channel}", func(_ http.ResponseWriter, r *http.Request) {
		msg, _ := io.ReadAll(r.Body) // ignored: the test's client sends whole bodies
		s.publish(r.PathValue("channel"), msg)
	})
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.CloseClientConnections)
	t.Cleanup(s.Close)
	return s
}

func (s *clientServer) options(p Protocol) Options {
	return Options{URL: "ws" + strings.TrimPrefix(s.URL, "http"), Protocol: p, Channel: "news", Loops: 2}
}

func (s *clientServer) channelLocked(name string) *clientChannel {
	c := s.channels[name]
	if c == nil {
		c = &clientChannel{subs: map[*wireClient]bool{}}
		s.channels[name] = c
	}
	return c
}

func (s *clientServer) raw(w http.ResponseWriter, r *http.Request) {
	ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
	for err == nil {
		var msg []byte
		if _, msg, err = ws.ReadMessage(); err == nil {
			s.publish(r.PathValue("channel"), msg)
		}
	}
	ws.Close()
}

func (s *clientServer) publish(channel string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.publishLocked(channel, data)
}

func (s *clientServer) publishLocked(channel string, data []byte) {
	c := s.channelLocked(channel)
	pub := &protocol.Publication{Data: data}
	if !s.plain {
		pub.Offset = uint64(len(c.log) + 1)
	}
	c.log = append(c.log, pub)
	pubs := []*protocol.Publication{pub}
	if s.wrong != nil {
		pubs = s.wrong(len(c.log), pub)
	}
	for client := range c.subs {
		for _, p := range pubs {
			client.send(&protocol.Reply{Push: &protocol.Push{Channel: channel, Pub: p}})
		}
	}
}

// encodeReplies returns replies in one message.
func encodeReplies(binaryForm bool, replies ...*protocol.Reply) (out []byte) {
	for i, r := range replies {
		if binaryForm {
			b, _ := protocol.NewProtobufReplyEncoder().Encode(r) // ignored: the test's own
			out = append(binary.AppendUvarint(out, uint64(len(b))), b...)
			continue
		}
		if i > 0 {
			out = append(out, '\n')
		}
		b, _ := protocol.NewJSONReplyEncoder().Encode(r) // ignored: the test's own
		out = append(out, b...)
	}
	return out
}

// send writes replies in one message.
func (c *wireClient) send(replies ...*protocol.Reply) {
	kind := websocket.TextMessage
	if c.binary {
		kind = websocket.BinaryMessage
	}
	c.ws.WriteMessage(kind, encodeReplies(c.binary, replies...)) // ignored: a client that has gone is a client less
}

func (s *clientServer) serve(w http.ResponseWriter, r *http.Request) {
	ws, err := (&websocket.Upgrader{Subprotocols: []string{"centrifuge-protobuf"}}).Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer ws.Close()
	c := &wireClient{ws: ws, binary: ws.Subprotocol() != ""}
	s.mu.Lock()
	s.clients[c] = true
	s.mu.Unlock()
	defer s.leave(c)
	for {
		_, msg, err := ws.ReadMessage()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.message(c, msg)
		s.mu.Unlock()
	}
}

func (s *clientServer) leave(c *wireClient) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.clients, c)
	for _, ch := range s.channels {
		delete(ch.subs, c)
	}
}

// cut ends all connections without a word.
func (s *clientServer) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.clients {
		c.ws.Close() // ignored: it is to be gone
	}
}

// message answers all commands of a message with one message, as servers may.
func (s *clientServer) message(c *wireClient, msg []byte) {
	if string(msg) == "{}" || string(msg) == "\x00" {
		s.pongs++
		return
	}
	var d protocol.CommandDecoder = protocol.NewJSONCommandDecoder(msg)
	if c.binary {
		d = protocol.NewProtobufCommandDecoder(msg)
	}
	var replies, behind []*protocol.Reply
	for {
		cmd, err := d.Decode()
		if cmd != nil {
			s.commands++
			reply := s.command(c, cmd)
			reply.Id = cmd.Id
			replies = append(replies, reply)
			if s.stray && cmd.Unsubscribe != nil {
				name := cmd.Unsubscribe.Channel
				log := s.channelLocked(name).log
				behind = append(behind, &protocol.Reply{Push: &protocol.Push{Channel: name, Pub: log[len(log)-1]}})
			}
		}
		if err != nil {
			break
		}
	}
	c.send(replies...)
	c.send(append(behind, &protocol.Reply{})...) // a ping
}

func (s *clientServer) command(c *wireClient, cmd *protocol.Command) *protocol.Reply {
	switch {
	case cmd.Connect != nil:
		if s.secret != "" {
			token, err := jwt.Parse(cmd.Connect.Token, func(*jwt.Token) (any, error) { return []byte(s.secret), nil },
				jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired())
			if err != nil {
				return &protocol.Reply{Error: &protocol.Error{Code: 109, Message: "token expired"}}
			}
			user, _ := token.Claims.GetSubject() // ignored: then it is empty, and the test fails
			s.users[user]++
		}
		return &protocol.Reply{Connect: &protocol.ConnectResult{Client: "c", Ping: 25, Pong: true}}
	case cmd.Publish != nil:
		if s.publishing != nil {
			if reply := s.publishing(cmd.Publish); reply != nil {
				return reply
			}
		}
		s.publishLocked(cmd.Publish.Channel, cmd.Publish.Data)
		return &protocol.Reply{Publish: &protocol.PublishResult{}}
	case cmd.Subscribe != nil:
		return s.subscribe(c, cmd.Subscribe)
	case cmd.Unsubscribe != nil:
		delete(s.channelLocked(cmd.Unsubscribe.Channel).subs, c)
		return &protocol.Reply{Unsubscribe: &protocol.UnsubscribeResult{}}
	}
	return &protocol.Reply{Error: &protocol.Error{Code: 104, Message: fmt.Sprintf("what is %v?", cmd)}}
}

func (s *clientServer) subscribe(c *wireClient, req *protocol.SubscribeRequest) *protocol.Reply {
	if req.Channel == s.refuses {
		return &protocol.Reply{Error: &protocol.Error{Code: 103, Message: "permission denied"}}
	}
	ch := s.channelLocked(req.Channel)
	ch.subs[c] = true
	if s.plain {
		return &protocol.Reply{Subscribe: &protocol.SubscribeResult{}}
	}
	res := &protocol.SubscribeResult{Recoverable: true, Positioned: true, Epoch: clientEpoch, Offset: uint64(len(ch.log))}
	if req.Recover {
		res.WasRecovering = true
		missed := ch.log[req.Offset:]
		res.Recovered = req.Epoch == clientEpoch && (s.kept == 0 || len(missed) <= s.kept)
		if res.Recovered {
			res.Publications = missed
			if s.recover != nil {
				res.Publications = s.recover(missed)
			}
		}
	}
	return &protocol.Reply{Subscribe: res}
}
