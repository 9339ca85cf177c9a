package serve

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// visitorsEndWithin is the time from the end of their input to that of the process.
const visitorsEndWithin = 3 * time.Second

// crowd is the process of the demo page's visitors. Its input ends with this process, however that
// ends, and with its input it ends itself.
type crowd struct {
	cmd   *exec.Cmd
	input io.WriteCloser
	lines *os.File
	once  sync.Once
	ended chan struct{} // closed when the process has
}

// newCrowd starts the process: this program's own command "bench visitors".
func newCrowd() (io.ReadWriteCloser, error) {
	lines, output, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer output.Close() // ignored: the process has its own
	cmd := exec.Command(self, "bench", "visitors")
	cmd.Env = []string{"GOMAXPROCS=1"} // the gateway and the browser need the other cores
	cmd.Stdout = output                // a file, so that Wait waits for nobody who reads
	input, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		lines.Close() // ignored: nothing was read
		return nil, fmt.Errorf("start the visitors: %w", err)
	}
	c := &crowd{cmd: cmd, input: input, lines: lines, ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		cmd.Wait() // ignored: its last line has said why
	}()
	return c, nil
}

// self is this program, even if its file was replaced meanwhile.
const self = "/proc/self/exe"

// Read returns what the process has written. After the last of it the process has ended.
func (c *crowd) Read(p []byte) (int, error) {
	n, err := c.lines.Read(p)
	if errors.Is(err, io.EOF) {
		<-c.ended
		c.lines.Close() // ignored: it was read to its end
	}
	return n, err
}

// Write sends commands.
func (c *crowd) Write(p []byte) (int, error) { return c.input.Write(p) }

// Close asks the process to end, and kills it if it does not. Later calls do nothing.
func (c *crowd) Close() error {
	c.once.Do(func() {
		c.input.Close() // ignored: the process may have ended
		go func() {
			t := time.NewTimer(visitorsEndWithin)
			defer t.Stop()
			select {
			case <-c.ended:
			case <-t.C:
				c.cmd.Process.Kill() // ignored: then it has ended
			}
		}()
	})
	return nil
}
