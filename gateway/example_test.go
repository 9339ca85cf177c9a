package gateway_test

import (
	"context"
	"fmt"
	"time"

	"sluice/gateway"
	"sluice/gateway/hook"

	"github.com/gorilla/websocket"
)

// A program of your own that broadcasts: what clients send is seen first, and it
// publishes by itself.
func Example() {
	server, err := gateway.New(gateway.Config{
		Hooks: hook.NewSet(hook.Hooks{Filter: func(m hook.FilterRequest) bool { return string(m.Payload) != "spam" }}),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	listener, err := gateway.Listen(ctx, "tcp", "127.0.0.1:0", 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	served := make(chan error)
	go func() { served <- server.Serve(listener) }()

	client, _, err := websocket.DefaultDialer.DialContext(ctx, "ws://"+listener.Addr().String()+"/ws/news", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	client.WriteMessage(websocket.TextMessage, []byte("spam"))
	client.WriteMessage(websocket.TextMessage, []byte("hello"))
	_, payload, _ := client.ReadMessage()
	fmt.Printf("%s\n", payload)

	receipt, err := server.Publish(ctx, gateway.Message{Channel: "news", Payload: []byte("goal!")})
	_, payload, _ = client.ReadMessage()
	fmt.Printf("%s, offset %d, subscribers %d, %v\n", payload, receipt.Offset, receipt.Subscribers, err)

	shutdown := make(chan error)
	go func() { shutdown <- server.Shutdown(ctx) }()
	_, _, err = client.ReadMessage()
	client.Close()
	fmt.Println(err)
	fmt.Println(<-shutdown, <-served)
	// Output:
	// hello
	// goal!, offset 2, subscribers 1, <nil>
	// websocket: close 1001 (going away): server is shutting down
	// <nil> gateway: server closed
}
