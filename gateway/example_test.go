package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"sluice/gateway"
	"sluice/gateway/access/namespace"
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

// A program that decides who its clients are, and that acts on them afterwards: what the server API does, as methods.
func ExampleServer_Subscribe() {
	connect := func(_ context.Context, q *hook.ConnectRequest) (*hook.ConnectResult, error) {
		if q.Client.Headers.Get("Cookie") != "session=ann" {
			return nil, &hook.Disconnect{Code: 4501, Reason: "log in first"}
		}
		return &hook.ConnectResult{User: "ann"}, nil
	}
	namespaces, err := namespace.Parse([]byte(`{"without_namespace":{"presence":true,"history_size":10,"history_ttl":"1m"}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	server, err := gateway.New(gateway.Config{
		Namespaces: namespaces,
		Hooks:      hook.NewSet(hook.Hooks{Connect: hook.Func(connect, hook.Options{Timeout: time.Second})}),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	defer server.Shutdown(ctx)
	listener, err := gateway.Listen(ctx, "tcp", "127.0.0.1:0", 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	go server.Serve(listener) // returns ErrServerClosed after Shutdown

	cookie := http.Header{"Cookie": {"session=ann"}}
	client, _, err := websocket.DefaultDialer.DialContext(ctx, "ws://"+listener.Addr().String()+"/connection/websocket", cookie)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	client.WriteMessage(websocket.TextMessage, []byte(`{"id":1,"connect":{}}`))
	client.ReadMessage()

	server.Subscribe(ctx, gateway.SubscribeRequest{User: "ann", Channel: "orders"})
	client.ReadMessage()
	present, err := server.Presence(ctx, "orders")
	fmt.Println("present:", len(present.Presence), err)

	server.Publish(ctx, gateway.Message{Channel: "orders", Payload: []byte(`"shipped"`)})
	_, push, _ := client.ReadMessage()
	fmt.Printf("%s\n", push)
	history, err := server.History(ctx, gateway.HistoryRequest{Channel: "orders", Limit: -1})
	fmt.Println("kept:", len(history.Publications), err)

	_, err = server.Refresh(ctx, gateway.RefreshRequest{User: "ann", ExpireAt: time.Now().Add(time.Hour).Unix()})
	fmt.Println("refreshed:", err)
	client.ReadMessage()
	server.Unsubscribe(ctx, gateway.UnsubscribeRequest{User: "ann", Channel: "orders"})
	_, push, _ = client.ReadMessage()
	fmt.Printf("%s\n", push)

	server.Disconnect(ctx, gateway.DisconnectRequest{User: "ann", Disconnect: &gateway.APIDisconnect{Code: 4502, Reason: "logged out"}})
	_, _, err = client.ReadMessage()
	fmt.Println(err)
	// Output:
	// present: 1 <nil>
	// {"push":{"channel":"orders","pub":{"data":"shipped","offset":1}}}
	// kept: 1 <nil>
	// refreshed: <nil>
	// {"push":{"channel":"orders","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}
	// websocket: close 4502: logged out
}
