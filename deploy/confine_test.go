package deploy_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A program is confined by this test binary, started once more with confineEnv: it
// makes a seccomp filter of what the variable says, gives up the right to make
// memory executable, and becomes the program.

const confineEnv = "DEPLOY_TEST_CONFINE"

type confinement struct {
	Calls, Families []uint32
}

// confined returns a command that is killed on any other system call or family of
// sockets. Names that this architecture does not have are left out.
func confined(t *testing.T, calls map[string]bool, families []string, name string, args ...string) *exec.Cmd {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("the numbers of system calls are read for amd64 only")
	}
	var c confinement
	numbers := callNumbers(t)
	for call, number := range numbers {
		if calls[call] {
			c.Calls = append(c.Calls, number)
		}
	}
	known := map[string]uint32{"AF_UNIX": unix.AF_UNIX, "AF_INET": unix.AF_INET, "AF_INET6": unix.AF_INET6}
	for _, family := range families {
		number, ok := known[family]
		if !ok {
			t.Fatalf("family %s: not one that the gateway should need", family)
		}
		c.Families = append(c.Families, number)
	}
	if len(c.Calls) < 100 || len(c.Calls) == len(numbers) || len(c.Families) == 0 {
		t.Fatalf("%d of %d calls and %d families are allowed: not understood", len(c.Calls), len(numbers), len(c.Families))
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], append([]string{name}, args...)...)
	cmd.Env = environment(confineEnv + "=" + string(text))
	return cmd
}

// callNumbers reads the numbers of system calls from the module that has them.
func callNumbers(t *testing.T) map[string]uint32 {
	t.Helper()
	dir := strings.TrimSpace(command(t, "go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys"))
	path := filepath.Join(dir, "unix", "zsysnum_linux_"+runtime.GOARCH+".go")
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	numbers := map[string]uint32{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		if value, ok := spec.Values[0].(*ast.BasicLit); ok {
			if number, err := strconv.ParseUint(value.Value, 10, 32); err == nil {
				numbers[strings.ToLower(strings.TrimPrefix(spec.Names[0].Name, "SYS_"))] = uint32(number)
			}
		}
		return true
	})
	return numbers
}

// filter is the confinement as a program for the kernel: the architecture, then the
// number, then for socket() its first argument. See seccomp(2).
func (c confinement) filter() []unix.SockFilter {
	const (
		load = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		jump = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		ret  = unix.BPF_RET | unix.BPF_K

		numberAt, archAt, argAt = 0, 4, 16 // offsets in struct seccomp_data
	)
	allow := unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW}
	kill := unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_KILL_PROCESS}
	f := []unix.SockFilter{
		{Code: load, K: archAt},
		{Code: jump, K: unix.AUDIT_ARCH_X86_64, Jt: 1},
		kill,
		{Code: load, K: numberAt},
	}
	for _, number := range c.Calls {
		if number != unix.SYS_SOCKET {
			f = append(f, unix.SockFilter{Code: jump, K: number, Jf: 1}, allow)
		}
	}
	f = append(f, unix.SockFilter{Code: jump, K: unix.SYS_SOCKET, Jt: 1}, kill, unix.SockFilter{Code: load, K: argAt})
	for _, family := range c.Families {
		f = append(f, unix.SockFilter{Code: jump, K: family, Jf: 1}, allow)
	}
	return append(f, kill)
}

// becomeConfined takes the place of a test run where the variable says so.
func becomeConfined() {
	text := os.Getenv(confineEnv)
	if text == "" {
		return
	}
	os.Unsetenv(confineEnv) // ignored: it has a valid name
	fmt.Fprintln(os.Stderr, "cannot confine:", confine(text))
	os.Exit(1)
}

// confine returns only when something failed.
func confine(text string) error {
	var c confinement
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	name, err := exec.LookPath(os.Args[1])
	if err != nil {
		return err
	}
	runtime.LockOSThread() // what follows is the thread's, and exec takes it along
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	// As MemoryDenyWriteExecute=; kernels before 6.3 do not have it.
	if err := unix.Prctl(unix.PR_SET_MDWE, unix.PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0); err != nil && err != unix.EINVAL {
		return fmt.Errorf("no executable memory: %w", err)
	}
	filter := c.filter()
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// unsafe: the kernel copies the program during the call.
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	return syscall.Exec(name, os.Args[1:], os.Environ())
}
