package nats

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	natsgo "github.com/nats-io/nats.go"
)

// killedDir is the variable that makes TestKilled a child process.
const killedDir = "SLUICE_TEST_KILLED"

// TestKilled kills a process that publishes as fast as it can, ten times: every acknowledged message is
// there afterwards, and positions stay good.
func TestKilled(t *testing.T) {
	if dir := os.Getenv(killedDir); dir != "" {
		publishUntilKilled(t, dir)
		return
	}
	t.Parallel()
	s := newDiskRig(t)
	acknowledged := map[uint64]string{} // by sequence
	for round := range 10 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$", "-test.v=false")
		cmd.Env = append(os.Environ(), killedDir+"="+s.dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		before, killed := len(acknowledged), false
		for lines := bufio.NewScanner(out); lines.Scan(); {
			seq, text, ok := strings.Cut(lines.Text(), " ")
			n, err := strconv.ParseUint(seq, 10, 64)
			if !ok || err != nil {
				t.Errorf("round %d: the child says %q", round, lines.Text())
				break
			}
			if acknowledged[n] != "" {
				t.Errorf("round %d: sequence %d was acknowledged twice", round, n)
			}
			acknowledged[n] = text
			if !killed && len(acknowledged)-before >= 50+20*round {
				killed = true
				cmd.Process.Kill() // error ignored: then it has ended, which Wait shows
			}
		}
		cmd.Process.Kill() // error ignored: likewise
		cmd.Wait()         // error ignored: it was killed
		if !killed {
			t.Fatalf("round %d: the child ended by itself", round)
		}
	}
	s.start()
	if g := s.e.generation(); g != 1 {
		t.Errorf("generation %d, want 1: %q", g, s.log.lines(""))
	}
	stream, err := s.js.Stream(within(t), "S")
	if err != nil {
		t.Fatal(err)
	}
	missing := 0
	for seq, text := range acknowledged {
		if m, err := stream.GetMsg(within(t), seq); err != nil || string(m.Data) != text {
			missing++
			t.Logf("message %d %q: %v", seq, text, err)
		}
	}
	if missing > 0 {
		t.Errorf("%d of %d acknowledged messages are missing", missing, len(acknowledged))
	}
	t.Logf("%d acknowledged messages, 10 kills", len(acknowledged))
}

// publishUntilKilled publishes and prints the sequence and the text of what is acknowledged.
func publishUntilKilled(t *testing.T, dir string) {
	s := diskRigIn(t, dir)
	s.start()
	if g := s.e.generation(); g != 1 {
		fmt.Printf("generation is %d: %q\n", g, s.log.lines(""))
	}
	s.createLarge("S")
	var out sync.Mutex
	for i := range 8 {
		go func() {
			for n := 0; ; n++ {
				text := fmt.Sprintf("%d of publisher %d of process %d, %s", n, i, os.Getpid(), strings.Repeat("x", 10*i))
				ack, err := s.js.PublishMsg(t.Context(), &natsgo.Msg{Subject: "S.a", Data: []byte(text)})
				if err != nil {
					fmt.Println("publish:", err)
					return
				}
				s.e.acknowledged(ack.Stream, ack.Sequence)
				out.Lock()
				fmt.Printf("%d %s\n", ack.Sequence, text)
				out.Unlock()
			}
		}()
	}
	select {} // until killed
}
