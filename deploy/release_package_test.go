package deploy_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

func tryPackage(t *testing.T, r release, arch string) {
	t.Parallel()
	file := r.name("linux_" + arch + ".deb")
	dir := t.TempDir()
	command(t, "dpkg-deb", "--extract", file, dir)
	if !bytes.Equal(r.read(t, dir+"/usr/bin/sluice"), r.read(t, r.name("linux_"+arch))) {
		t.Error("/usr/bin/sluice is not the released binary")
	}
	for field, want := range map[string]string{
		"Package": "sluice", "Architecture": arch, "Version": "1.2.3~rc.1", "Maintainer": "Ann Example <ann@lists.debian.org>",
		"Homepage": "https://git.example.org/sluice", "Depends": "",
	} {
		if got := strings.TrimSpace(command(t, "dpkg-deb", "--field", file, field)); got != want {
			t.Errorf("%s is %q, want %q", field, got, want)
		}
	}
	for path, shippedAs := range map[string]string{
		"/etc/sluice/sluice.conf": "systemd/sluice.conf", "/usr/share/doc/sluice/examples/60-sluice.conf": "sysctl/60-sluice.conf",
		"/usr/share/doc/sluice/examples/direct.conf": "systemd/direct.conf", "/usr/share/doc/sluice/examples/reload.conf": "systemd/reload.conf",
	} {
		if string(r.read(t, dir+path)) != shipped(t, shippedAs) {
			t.Errorf("%s is not %s", path, shippedAs)
		}
	}
	// The unit is the shipped one, but for its comments and the place of the binary.
	comments := regexp.MustCompile(`(?m)^#.*\n`)
	want := comments.ReplaceAllString(substitute(t, shipped(t, unitFile), "/usr/local/bin/", "/usr/bin/"), "")
	if got := comments.ReplaceAllString(string(r.read(t, dir+"/usr/lib/systemd/system/sluice.service")), ""); got != want {
		t.Errorf("the unit differs from %s:\n%s", unitFile, got)
	}

	// The binary with the settings that come with it, on other ports.
	if arch == hostArchitecture(t) {
		config := write(t, "sluice.conf", substitute(t, string(r.read(t, dir+"/etc/sluice/sluice.conf")),
			"127.0.0.1:8000", "127.0.0.1:0", "127.0.0.1:9000", "127.0.0.1:0", "max-connections = 100000", "max-connections = 100"))
		cmd := exec.Command(dir+"/usr/bin/sluice", "serve", "--config", config)
		cmd.Env = environment("SLUICE_API_KEY_FILE=" + write(t, "api-key", "0123456789abcdef"))
		tryEcho(t, ready(t, run(t, cmd)))
	}

	lintian := tool(t, "lintian", "lintian")
	out, err := exec.Command(lintian, "--allow-root", "--fail-on", "error,warning", file).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("lintian: %v\n%s", err, out)
	}
}

// installing is what an administrator does with the package, on a copy of this machine's
// files: everything that is written goes into a file system in memory.
const installing = `
set -eu
mount -t tmpfs tmpfs "$PLACE"
mkdir "$PLACE/upper" "$PLACE/work" "$PLACE/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$PLACE/upper,workdir=$PLACE/work" "$PLACE/root" || { echo "no overlay here"; exit 77; }
mount --rbind /proc "$PLACE/root/proc"
mount --rbind /dev "$PLACE/root/dev"
mount -t tmpfs tmpfs "$PLACE/root/tmp"
cp "$PACKAGE" "$PLACE/root/tmp/sluice.deb"
exec chroot "$PLACE/root" sh -eu -c '
	left() { find / -xdev \( -name "*sluice*" -o -path "*/sluice/*" \) -not -path "/tmp/*" -not -path "$CLONE/*" | sort; }
	if dpkg -s sluice >/dev/null 2>&1; then echo "sluice is installed here"; exit 77; fi
	left >/tmp/before
	dpkg -i /tmp/sluice.deb
	stat -c "key: %a %U %s" /etc/sluice/api-key
	cp /etc/sluice/api-key /tmp/api-key
	readlink /etc/systemd/system/multi-user.target.wants/sluice.service
	if command -v systemd-analyze >/dev/null; then
		systemd-analyze verify --man=no /usr/lib/systemd/system/sluice.service && echo the unit is understood
	fi
	ulimit -n "$(ulimit -Hn)"
	SLUICE_API_KEY_FILE=/etc/sluice/api-key sluice check --config /etc/sluice/sluice.conf --max-connections 100 >/dev/null && echo checked
	sluice version
	bash -n /usr/share/bash-completion/completions/sluice

	echo "# mine" >>/etc/sluice/sluice.conf
	dpkg -i /tmp/sluice.deb
	cmp /etc/sluice/api-key /tmp/api-key && grep -c "# mine" /etc/sluice/sluice.conf

	dpkg -r sluice
	test ! -e /usr/bin/sluice && test ! -e /usr/lib/systemd/system/sluice.service
	cmp /etc/sluice/api-key /tmp/api-key && grep "# mine" /etc/sluice/sluice.conf
	dpkg -P sluice
	left >/tmp/after
	diff /tmp/before /tmp/after && echo nothing is left
'
`

func tryInstalling(t *testing.T, r release) {
	t.Parallel()
	tool(t, "dpkg", "dpkg")
	clone, err := filepath.Abs(repository)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", installing)
	cmd.Env = environment("PLACE="+t.TempDir(), "PACKAGE="+r.name("linux_"+hostArchitecture(t)+".deb"), "CLONE="+clone, "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() == 77 {
		t.Skipf("cannot be tried here: %s", out)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	wants := []string{"key: 600 root 64\n", "/sluice.service\n", "\nchecked\n", "\nsluice " + releaseVersion + "\n", "\n# mine\n", "\nnothing is left\n"}
	if _, err := exec.LookPath("systemd-analyze"); err == nil {
		wants = append(wants, "\nthe unit is understood\n")
	}
	for _, want := range wants {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if _, err := os.Stat("/usr/bin/sluice"); err == nil {
		t.Error("the package was installed on this machine, and not on a copy of its files")
	}
}
