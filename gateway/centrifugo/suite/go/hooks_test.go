package suite

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/centrifugal/centrifuge-go"

	"sluice/gateway/hooktest"
)

// An application decides about clients of the library: package hooktest says what its words mean.
func TestApplicationDecides(t *testing.T) {
	backend := hooktest.Start(t).URL
	n := &node{alone: true, flags: []string{"--hook-headers", "Cookie", "--hook-timeout", "30s"}}
	for _, event := range []string{"connect", "refresh", "subscribe", "publish", "rpc"} {
		n.flags = append(n.flags, "--"+event+"-hook", backend+"/"+event)
	}
	n.flags = append(n.flags, "--sub-refresh-hook", backend+"/sub_refresh")
	begin(t, n)
	with := func(t *testing.T, e encoding, session string) *client {
		return dial(t, e, n.client(), centrifuge.Config{Header: http.Header{"Cookie": {"session=" + session}}})
	}
	t.Run("", func(t *testing.T) { // the gateway ends after all of these
		both(t, func(t *testing.T, e encoding) {
			for _, refused := range []struct {
				session string
				code    uint32
			}{{"ann-error", 403}, {"ann-disconnect", 4501}, {"ann-empty", 3501}} {
				if got := next(t, with(t, e, refused.session).disconnected, "it is refused"); got.Code != refused.code {
					t.Errorf("%s is refused with %d %s", refused.session, got.Code, got.Reason)
				}
			}
			next(t, with(t, e, "ann-fails").failed, "it tries again")

			ann, bob := with(t, e, "ann"), with(t, e, "bob")
			next(t, ann.connected, "it may")
			next(t, bob.connected, "it may")
			answer, err := ann.RPC(context.Background(), "m", []byte(`{"n":1}`))
			if err != nil || string(answer.Data) != `{"data":{"n":1},"method":"m","user":"ann"}` {
				t.Errorf("RPC: %s, %v", answer.Data, err)
			}
			_, err = ann.RPC(context.Background(), "m-error", []byte("1"))
			if got := code(t, err); got != 403 {
				t.Errorf("RPC: error %d", got)
			}

			name := "news" + string(e)
			ann.refused(t, "x-error", 403)
			listens := bob.subscribe(t, name)
			if _, err := ann.Publish(context.Background(), name, []byte(`"one"`)); err != nil { // nor is a subscription needed
				t.Error(err)
			}
			_, err = ann.Publish(context.Background(), name, []byte(`"p-error"`))
			if got := code(t, err); got != 403 {
				t.Errorf("publish: error %d", got)
			}
			if _, err := ann.Publish(context.Background(), name, []byte(`"p-change"`)); err != nil {
				t.Error(err)
			}
			for _, want := range []string{`"one"`, `"changed"`} {
				if p := next(t, listens.published, want); string(p.Data) != want || p.Info == nil || p.Info.User != "ann" {
					t.Errorf("heard %s of %+v, want %s of ann", p.Data, p.Info, want)
				}
			}

			expires := with(t, e, "ann@expired-+2")
			next(t, expires.connected, "it may")
			if got := next(t, expires.connecting, "its time is over"); got.Code != 3005 {
				t.Errorf("its time is over with %d %s", got.Code, got.Reason)
			}
			s := bob.subscribe(t, fmt.Sprintf("x%s@expired-+2", e))
			if got := next(t, s.subscribing, "its time is over"); got.Code != 2501 {
				t.Errorf("the subscription's time is over with %d %s", got.Code, got.Reason)
			}
		})
	})
}
