package control

import (
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/gateway/access"
	"sluice/gateway/api"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
	"sluice/gateway/engine/enginetest"
	"sluice/gateway/presence"

	"github.com/google/go-cmp/cmp"
)

func TestMain(m *testing.M) { os.Exit(clienttest.RunTests(m)) }

func TestEveryPublishFaultHasAnErrorOfTheAPI(t *testing.T) {
	for i, e := range apiErrors {
		f := engine.Fault(i)
		if later := f == engine.RateReached || f == engine.PushedBack || f == engine.Unavailable || f == engine.Away; e == nil || later != (e.RetryAfter > 0) {
			t.Errorf("%v: %+v", f, e)
		}
	}
}

// A request with the idempotency key of one that failed, and whose message may have been published,
// publishes nothing again and returns the result.
func TestRetryPublishesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := enginetest.NewStore(t, 1, enginetest.Trouble{Delay: time.Millisecond, Unacked: 1000}, enginetest.Keep)
		space := enginetest.NewSpace()
		e := enginetest.NewLate(store, space, presence.New(), engine.NodeInfo{})
		space.Remote(e, nil)
		node := &Node{Space: space, Policy: access.New(access.Config{}), Engine: e, Text: func(s string) string { return s },
			Publisher: engine.NewPublisher(e, space, 100)}
		h := api.New(node, api.Options{})
		publish := func(key string) string {
			answer := httptest.NewRecorder()
			h.ServeHTTP(answer, httptest.NewRequest("POST", "/api/publish", strings.NewReader(`{"channel":"x","data":"`+key+`","idempotency_key":"`+key+`"}`)))
			return answer.Body.String()
		}
		fails := func(why, key string) {
			if got := publish(key); !strings.Contains(got, `"code":100,`) {
				t.Errorf("%s: got %s", why, got)
			}
		}
		fails("it is stored, and not acknowledged", "unacked")
		store.Calm()
		resume := store.Stall()
		begun := time.Now()
		fails("it is not stored yet", "late")
		if took := time.Since(begun); took != engine.Patience {
			t.Errorf("the answer came after %v, want %v", took, engine.Patience)
		}
		results := make(chan string, 2)
		for range cap(results) { // both before the store goes on
			go func() { results <- publish("late") }()
		}
		synctest.Wait()
		resume()
		late := <-results
		if other := <-results; !strings.Contains(late, `"offset":`) || other != late || publish("late") != late {
			t.Errorf("got %s and %s", late, other)
		}
		if got := publish("unacked"); !strings.Contains(got, `"offset":`) || got == late {
			t.Errorf("got %s", got)
		}
		var stored []string
		for _, p := range store.Ever("x") {
			stored = append(stored, p.Payload)
		}
		if diff := cmp.Diff([]string{`"unacked"`, `"late"`}, stored); diff != "" {
			t.Errorf("stored (-want +got):\n%s", diff)
		}
	})
}
