package deploy_test

import (
	"debug/elf"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/bench/child"
)

// buildah builds images without a daemon, in a store of the test's own.
type buildah struct {
	binary, dir string
}

func newBuildah(t *testing.T) buildah {
	t.Helper()
	b := buildah{binary: tool(t, "buildah", "buildah"), dir: t.TempDir()}
	if os.Getuid() != 0 {
		t.Skip("needs root: it builds in a chroot and then runs the binary in the image's files as another user")
	}
	// Whatever this machine trusts, images here come from this machine.
	if err := os.WriteFile(filepath.Join(b.dir, "policy.json"), []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b buildah) run(t *testing.T, args ...string) string {
	t.Helper()
	args = append([]string{"--root", b.dir + "/root", "--runroot", b.dir + "/run", "--storage-driver", "vfs"}, args...)
	var messages child.Log
	cmd := exec.CommandContext(t.Context(), b.binary, args...)
	cmd.Env = environment("TMPDIR=" + b.dir)
	cmd.Stderr = &messages
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("buildah %s: %v\n%s%s", strings.Join(args, " "), err, out, &messages)
	}
	return strings.TrimSpace(string(out))
}

// builder makes an image that holds nothing but knows where Go will be, and gives
// the mounts that bring this machine's Go, shell and modules there: no registry is
// asked for anything.
func (b buildah) builder(t *testing.T) (image string, mounts []string) {
	t.Helper()
	var env struct{ GOROOT, GOMODCACHE, GOCACHE string }
	if err := json.Unmarshal([]byte(command(t, "go", "env", "-json", "GOROOT", "GOMODCACHE", "GOCACHE")), &env); err != nil {
		t.Fatal(err)
	}
	container := b.run(t, "from", "--signature-policy", b.dir+"/policy.json", "scratch")
	b.run(t, "config", "--env", "PATH=/goroot/bin:/usr/bin:/bin", "--env", "GOROOT=/goroot", "--env", "GOMODCACHE=/gomodcache",
		"--env", "GOCACHE=/gocache", "--env", "GOPROXY=off", "--env", "GOTOOLCHAIN=local", container)
	b.run(t, "commit", "--signature-policy", b.dir+"/policy.json", container, "localhost/go")
	b.run(t, "rm", container)

	mounts = []string{env.GOROOT + ":/goroot:ro", env.GOMODCACHE + ":/gomodcache:ro", env.GOCACHE + ":/gocache", t.TempDir() + ":/tmp"}
	for _, dir := range []string{"/bin", "/lib", "/lib64", "/usr", "/etc/ssl/certs"} { // the shell and what it needs, and certificates
		if _, err := os.Stat(dir); err == nil {
			mounts = append(mounts, dir+":"+dir+":ro")
		}
	}
	return "localhost/go", mounts
}

// imageConfig is what an image in Docker's format says about running it.
type imageConfig struct {
	User        string
	Env         []string
	Entrypoint  []string
	Cmd         []string
	StopSignal  string
	Healthcheck struct{ Test []string }

	ExposedPorts map[string]struct{}
}

// imageSettings is what Dockerfile says about running the image.
func imageSettings() imageConfig {
	c := imageConfig{
		User: "65532:65532", Env: []string{"SLUICE_LISTEN=:8000"}, Entrypoint: []string{"/sluice"}, Cmd: []string{"serve"},
		StopSignal: "SIGTERM", ExposedPorts: map[string]struct{}{"8000/tcp": {}},
	}
	c.Healthcheck.Test = []string{"CMD", "/sluice", "health"}
	return c
}

// isPath reports whether a variable is the one that buildah adds.
func isPath(variable string) bool { return strings.HasPrefix(variable, "PATH=") }

func TestImageHoldsTheGatewayAndCertificates(t *testing.T) {
	t.Parallel()
	b := newBuildah(t)
	sluice(t) // the same source, which fills the cache that the image's build uses
	// Building needs fewer modules than go.mod names, and the image's build has no proxy.
	if out, err := exec.Command("go", "mod", "download").CombinedOutput(); err != nil {
		t.Fatalf("go mod download: %v\n%s", err, out)
	}
	builder, mounts := b.builder(t)
	args := []string{"build", "--signature-policy", b.dir + "/policy.json", "--format", "docker", "--isolation", "chroot", "--pull-never", "--layers=false",
		"--build-arg", "BUILDER=" + builder, "--build-arg", "VERSION=v1.2.3-test",
		"--ignorefile", "Dockerfile.dockerignore", "--file", "Dockerfile", "--tag", "localhost/sluice"}
	for _, m := range mounts {
		args = append(args, "--volume", m)
	}
	b.run(t, append(args, "..")...)

	var image struct {
		Docker struct {
			Config imageConfig `json:"config"`
		} `json:"Docker"`
	}
	if err := json.Unmarshal([]byte(b.run(t, "inspect", "--type", "image", "localhost/sluice")), &image); err != nil {
		t.Fatal(err)
	}
	got := image.Docker.Config
	got.Env = slices.DeleteFunc(got.Env, isPath)
	want := imageSettings()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the image's configuration (-want +got):\n%s", diff)
	}

	container := b.run(t, "from", "--signature-policy", b.dir+"/policy.json", "--pull-never", "localhost/sluice")
	root := b.run(t, "mount", container)
	t.Cleanup(func() { b.cleanUp(t, container) })
	var files []string
	var size int64
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, path)
			info, err := d.Info()
			if err != nil {
				return err
			}
			size += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"etc/ssl/certs/ca-certificates.crt", "sluice"}, files); diff != "" {
		t.Errorf("files of the image (-want +got):\n%s", diff)
	}
	// A volume that is mounted there gets its owner and mode.
	data, err := os.Stat(filepath.Join(root, "data"))
	if err != nil {
		t.Fatal(err)
	}
	if owner := data.Sys().(*syscall.Stat_t); owner.Uid != 65532 || owner.Gid != 65532 || data.Mode().Perm() != 0o700 {
		t.Errorf("/data belongs to %d:%d and has the mode %v", owner.Uid, owner.Gid, data.Mode())
	}
	if top, err := os.Stat(root); err != nil || top.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("/ does not belong to root (%v)", err)
	}
	const sizeMax = 30_500_000 // a binary of 30 MB, and certificates
	t.Logf("%.1f MiB", float64(size)/(1<<20))
	if size > sizeMax {
		t.Errorf("the image has %d bytes, more than %d: what has come into the binary?", size, sizeMax)
	}
	binary, err := elf.Open(filepath.Join(root, "sluice"))
	if err != nil {
		t.Fatal(err)
	}
	defer binary.Close()
	for _, p := range binary.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the binary is not static: there is no loader in the image")
		}
	}
	runImage(t, root)
}

// cleanUp gives back the mount; the test's context has ended by then.
func (b buildah) cleanUp(t *testing.T, container string) {
	cmd := exec.Command(b.binary, "--root", b.dir+"/root", "--runroot", b.dir+"/run", "--storage-driver", "vfs", "rm", container)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("buildah rm: %v\n%s", err, out)
	}
}

// runImage runs what the image would run, as its user and with its files alone, but
// on free ports.
func runImage(t *testing.T, root string) {
	settings := []string{"SLUICE_LISTEN=127.0.0.1:" + freePort(t), "SLUICE_INTERNAL_LISTEN=127.0.0.1:" + freePort(t)}
	inside := func(args ...string) *exec.Cmd {
		return &exec.Cmd{Path: "/sluice", Args: append([]string{"/sluice"}, args...), Dir: "/", Env: settings,
			SysProcAttr: &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}}
	}
	if out, err := inside("version").CombinedOutput(); err != nil || !strings.Contains(string(out), "v1.2.3-test") {
		t.Errorf("version: %v, %s, want v1.2.3-test", err, out)
	}
	g := ready(t, run(t, inside("serve")))
	c, err := connect(g.Public, "/echo", "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := echo(c, "from scratch"); err != nil {
		t.Error(err)
	}
	if out, err := inside("health").CombinedOutput(); err != nil {
		t.Errorf("health of a gateway that is well: %v\n%s", err, out)
	}
	if err := g.Stop(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	if inside("health").Run() == nil {
		t.Error("health of a gateway that has ended: exit code 0")
	}
}
