package hook_test

import (
	"context"
	"fmt"
	"strings"

	"sluice/gateway/hook"
)

// A program decides by itself who may connect, and what may be published.
func ExampleFunc() {
	connect := hook.Func(func(_ context.Context, q *hook.ConnectRequest) (*hook.ConnectResult, error) {
		session, ok := strings.CutPrefix(q.Client.Headers.Get("Cookie"), "session=")
		if !ok {
			return nil, &hook.Error{Code: 401, Message: "log in first"}
		}
		return &hook.ConnectResult{User: "user of " + session}, nil
	}, hook.Options{})
	defer connect.Close()

	for _, cookie := range []string{"session=1", ""} {
		q := &hook.ConnectRequest{Client: &hook.Identity{Headers: hook.Header{{Name: "Cookie", Value: cookie}}}}
		answered := make(chan struct{})
		connect.Ask(q, func(r *hook.ConnectResult, err error) {
			defer close(answered)
			if err != nil {
				fmt.Println("refused:", err)
				return
			}
			fmt.Println("connected:", r.User)
		})
		<-answered
	}
	// Output:
	// connected: user of 1
	// refused: log in first (401)
}
