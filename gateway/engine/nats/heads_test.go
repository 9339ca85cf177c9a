package nats

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"sluice/gateway/clienttest"
	"sluice/gateway/engine/nats/natstest"
)

// Heads that do not come in time are asked for again, and what is not known to be so is not said.
func TestHeadsThatAreLate(t *testing.T) {
	t.Parallel()
	message := func(f *fake, reply, name string, seq, last, pending int) {
		f.send(reply, "m", "Nats-Subject", "in."+name, "Nats-Sequence", fmt.Sprint(seq), "Nats-Last-Sequence", fmt.Sprint(last), "Nats-Num-Pending", fmt.Sprint(pending))
	}
	end := func(f *fake, reply string, last, pending, upTo int) {
		f.status(reply, "204", "EOB", "Nats-Last-Sequence", fmt.Sprint(last), "Nats-Num-Pending", fmt.Sprint(pending), "Nats-UpTo-Sequence", fmt.Sprint(upTo))
	}
	var first string // reply subject of a question
	for name, test := range map[string]struct {
		answers []func(f *fake, q directGet, reply string)
		want    string // of channels a, b and c
	}{
		"the second server answers": {[]func(f *fake, q directGet, reply string){
			func(f *fake, q directGet, reply string) { f.late(reply) },
			func(f *fake, q directGet, reply string) {
				message(f, reply, "a", 3, 0, 1)
				message(f, reply, "b", 5, 3, 0)
				end(f, reply, 5, 0, 9)
			},
		}, "a 3 true, b 5 true, c 9 false"},
		"and the first has begun": {[]func(f *fake, q directGet, reply string){
			func(f *fake, q directGet, reply string) { message(f, reply, "a", 3, 0, 1); f.late(reply) },
			func(f *fake, q directGet, reply string) {
				if q.Seq != 4 {
					f.t.Errorf("asked again from %d", q.Seq)
				}
				message(f, reply, "b", 5, 0, 0)
				end(f, reply, 5, 0, 9)
			},
		}, "a 3 true, b 5 true, c 9 false"},
		"in pieces, the second by a server that is behind": {[]func(f *fake, q directGet, reply string){
			func(f *fake, q directGet, reply string) { message(f, reply, "a", 3, 0, 1); end(f, reply, 3, 1, 9) },
			func(f *fake, q directGet, reply string) { message(f, reply, "b", 5, 0, 0); end(f, reply, 5, 0, 6) },
		}, "a 3 true, b 5 true, c 6 false"},
		"in pieces, the first by a server that is behind": {[]func(f *fake, q directGet, reply string){
			func(f *fake, q directGet, reply string) { message(f, reply, "a", 3, 0, 1); end(f, reply, 3, 1, 6) },
			func(f *fake, q directGet, reply string) { message(f, reply, "b", 5, 0, 0); end(f, reply, 5, 0, 9) },
		}, "a 3 true, b 5 true, c 6 false"},
		"the first server answers after all": {[]func(f *fake, q directGet, reply string){
			func(f *fake, q directGet, reply string) { first = reply; f.late(reply) },
			func(f *fake, q directGet, reply string) {
				message(f, first, "a", 3, 0, 1)
				message(f, reply, "a", 3, 0, 1)
				message(f, reply, "b", 5, 3, 0)
				end(f, first, 3, 1, 3)
				end(f, reply, 5, 0, 9)
			},
		}, "a 3 true, b 5 true, c 9 false"},
		"none of them": {[]func(f *fake, q directGet, reply string){
			func(f *fake, q directGet, reply string) { f.status(reply, "404", "No Results") },
		}, "a 0 false, b 0 false, c 0 false"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.mu.Lock()
			for _, answer := range test.answers {
				f.direct = append(f.direct, func(q directGet, reply string) { answer(f, q, reply) })
			}
			f.mu.Unlock()
			heads, err := f.st.heads(testContext(t), []string{"a", "b", "c"})
			if got := headsText(heads); err != nil || got != test.want {
				t.Errorf("got %s, %v, want %s", got, err, test.want)
			}
		})
	}
	t.Run("one by one", func(t *testing.T) {
		t.Parallel()
		f := newFake(t)
		in, err := f.st.link.inbox()
		if err != nil {
			t.Fatal(err)
		}
		defer in.end()
		late := map[string]string{} // who asks for what for the first time; guarded by f.mu
		f.mu.Lock()
		f.direct = []func(q directGet, reply string){func(q directGet, reply string) {
			switch first := late[q.LastBy] == ""; {
			case q.LastBy == "in.b" && first: // lost
				late[q.LastBy] = reply
				f.late(reply)
			case q.LastBy == "in.c":
				f.status(reply, "404", "Message Not Found")
			default:
				f.send(reply, "m", "Nats-Subject", q.LastBy, "Nats-Sequence", "7")
			}
		}}
		f.mu.Unlock()
		heads := make([]head, 3)
		err = f.st.headsOneByOne(testContext(t), in, []string{"a", "b", "c"}, heads, 2)
		if got := headsText(heads); err != nil || got != "a 7 true, b 7 true, c 2 false" {
			t.Errorf("got %s, %v", got, err)
		}
	})
}

func headsText(heads []head) (s string) {
	for i, h := range heads {
		if i > 0 {
			s += ", "
		}
		s += fmt.Sprintf("%c %d %v", 'a'+i, h.seq, h.found)
	}
	return s
}

// Heads come in pieces: by number, and by bytes. Those without a message are bounded, where that is known.
func TestHeadsOfManyChannels(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T) string{
		"in process": func(t *testing.T) string { return natstest.Start(t, natstest.Options{JetStream: true}).URL() },
		"cluster":    func(t *testing.T) string { return natstest.StartCluster(t, 3, natstest.Options{JetStream: true}).URL() },
		"Debian's":   func(t *testing.T) string { return natstest.StartChild(t).URL() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := testConfig(histories(3, ""))
			c.embedded = name == "in process"
			r := testStore(t, c, start(t))
			st := r.all[0]
			var names []string
			for i := 0; len(names) < 3000; i++ {
				if name := fmt.Sprint("channel-", i); r.of(name) == st {
					names = append(names, name)
				}
			}
			large := strings.Repeat("x", 20_000)
			want := make(map[string]uint64)
			for i := 0; i < len(names); i += 17 {
				r.store(names[i], "old")
				want[names[i]] = r.store(names[i], large)
			}
			s, err := st.state(testContext(t))
			if err != nil {
				t.Fatal(err)
			}
			if name == "cluster" {
				clienttest.WaitFor(t, "all replicas have all", func() bool {
					heads, err := st.heads(testContext(t), names)
					return err == nil && headsAre(heads, names, want, s.last) == ""
				})
			}
			rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
			heads, err := st.heads(testContext(t), names)
			if err != nil {
				t.Fatal(err)
			}
			if fault := headsAre(heads, names, want, s.last); fault != "" {
				t.Error(fault)
			}
			for i := range heads {
				if sure := heads[i].seq > 0; !heads[i].found && sure != (name != "Debian's") {
					t.Fatalf("%s has nothing up to %d", names[i], heads[i].seq)
				}
			}
		})
	}
}

func headsAre(heads []head, names []string, want map[string]uint64, last uint64) string {
	for i, h := range heads {
		seq, stored := want[names[i]]
		if h.found != stored || stored && (h.seq != seq || len(h.msg) != 20_000) || !stored && h.seq > last {
			return fmt.Sprintf("%s: sequence %d, found %v, want %d, %v", names[i], h.seq, h.found, seq, stored)
		}
	}
	return ""
}

// A server that knows no batches says so, where a newer one was expected.
func TestAnOldServerAnswersNoBatches(t *testing.T) {
	t.Parallel()
	r := testStore(t, testConfig(histories(3, "")), natstest.StartChild(t).URL())
	r.store("a", "0")
	in, err := r.inbox()
	if err != nil {
		t.Fatal(err)
	}
	defer in.end()
	if r.batches() {
		t.Skip("the nats-server that is installed knows batches")
	}
	if err := r.of("a").headsOfBatch(testContext(t), in, []string{"a"}, make([]head, 1), 0); err != errNoBatches {
		t.Errorf("got %v", err)
	}
}
