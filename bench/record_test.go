package bench

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/gobwas/ws"
)

// written returns the payload of a publication of a phase.
func written(p phase, seq uint32, size int) []byte {
	payload := bytes.Repeat([]byte{'.'}, size)
	stamp{seq: seq}.put(payload, p.mark)
	return payload
}

// recordTranscript has a bit of everything that a server of JSON records may send.
func recordTranscript(p phase, long int) []byte {
	var b bytes.Buffer
	publication := func(offset int, payload []byte) { b.Write(inProtocol(JSON, offset, payload)) }
	record := func(format string, args ...any) {
		b.Write(ws.MustCompileFrame(ws.NewTextFrame(fmt.Appendf(nil, format, args...))))
	}
	record(`{"greeting":"\"offset\":5 is not an offset"}`)
	record(`{"gap":false,"channel":"lobby","epoch":"3w5e11264sg1","offset":6,"conn":"17"}`)
	publication(7, written(p, 0, 64))
	publication(8, written(p, 1, 64))
	publication(9, []byte("hello, world"))
	publication(10, written(p, 2, long))
	publication(11, written(p, 3, 400)) // a longer offset and a longer frame
	publication(14, written(p, 4, 64))  // 12 and 13 are missing
	publication(13, written(p, 5, 64))
	publication(14, written(p, 5, 64))
	publication(15, written(phase{mark: p.mark.inPhase(2)}, 0, 64))
	record(`{"gap":true,"channel":"lobby","epoch":"other","offset":100,"conn":"17"}`)
	record(`{"channel":"lobby","epoch":"other","offset":107,"prev":100,"at":1,"from":"api","data":"%s"}`, written(p, 6, 64))
	record(`{"channel":"lobby","epoch":"another","offset":1,"at":1,"from":"api","data":"%s"}`, written(p, 7, 64))
	record(`{"channel":"lobby","data":"%s"}`, written(p, 8, 64))
	return b.Bytes()
}

func TestRecordsAreReadHoweverTheyAreCut(t *testing.T) {
	p := testPhase()
	testCuts(t, JSON, p, recordTranscript(p, 70_000), heard{
		Delivered: 9, Lost: 1, Repeated: 1, Stale: 1, Foreign: 1, // hello
		Holes:   1 + 1 + 1, // before 14, an epoch that changed unannounced, a record without an offset
		Repeats: 2, Gaps: 1, Closes: map[ws.StatusCode]int64{},
	})
}

// eventTranscript is the same of an event stream.
func eventTranscript(p phase, long int) []byte {
	var b bytes.Buffer
	publication := func(offset int, payload []byte) { b.Write(inProtocol(SSE, offset, payload)) }
	b.WriteString("event: greeting\ndata: welcome\ndata: id: 3w5e11264sg1:1\n\n")
	b.WriteString("retry: 1234\nid: 3w5e11264sg1:6\n\n")
	publication(7, written(p, 0, 64))
	publication(8, written(p, 1, 64))
	b.WriteString(":\n\n")
	publication(9, []byte("hello, world"))
	publication(10, written(p, 2, long))
	fmt.Fprintf(&b, "id: 3w5e11264sg1:11\r\ndata: %s\r\ndata: %s\r\n\r\n", written(p, 3, 64), written(p, 4, 64))
	fmt.Fprintf(&b, "event: binary\nid: 3w5e11264sg1:12\ndata: AAEC\n\n")
	publication(15, written(p, 4, 64)) // behind a hole
	publication(14, written(p, 5, 64))
	publication(15, written(p, 5, 64))
	publication(16, written(phase{mark: p.mark.inPhase(2)}, 0, 64))
	b.WriteString("event: gap\nid: other:100\ndata: {\"gap\":true,\"epoch\":\"other\",\"offset\":100}\n\n")
	fmt.Fprintf(&b, "id: other:101\ndata:%s\n\n", written(p, 6, 64))
	fmt.Fprintf(&b, "id: another:1\ndata: %s\n\n", written(p, 7, 64))
	fmt.Fprintf(&b, "data: %s\n\n", written(p, 8, 64))
	b.WriteString("event: close\ndata: {\"code\":1001,\"reason\":\"the server is shutting down\"}\n\n")
	b.WriteString("id: another:2\ndata: nobody reads this\n\n")
	return b.Bytes()
}

func TestEventsAreReadHoweverTheyAreCut(t *testing.T) {
	p := testPhase()
	testCuts(t, SSE, p, eventTranscript(p, 70_000), heard{
		Delivered: 9, Lost: 1, Repeated: 1, Stale: 1, Foreign: 2, // hello, the binary one
		Holes:   1 + 1, // an epoch that changed unannounced, an event without an id; ids name no event before them
		Repeats: 2, Gaps: 1, Closes: map[ws.StatusCode]int64{ws.StatusGoingAway: 1}, Err: errClosed.Error(),
	})
}
