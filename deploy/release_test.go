package deploy_test

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/bench/child"
)

var tryRelease = flag.Bool("release", false, "build a release, twice, and try what it contains: about 30 s of CPU, several minutes with an empty build cache")

// release is a directory that release/build filled, from a commit of this tree.
type release struct {
	clone, dir, commit string
}

// The version has a part that sorts in another way in Debian, and the names do not.
const (
	releaseVersion = "v1.2.3-rc.1"
	releasePrefix  = "sluice_1.2.3-rc.1_"
)

var releaseArchitectures = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// emulators run what is built for another architecture than this machine's.
var emulators = map[string]string{"amd64": "qemu-x86_64", "arm64": "qemu-aarch64"}

// name returns the path of one of the release's files.
func (r release) name(suffix string) string { return filepath.Join(r.dir, releasePrefix+suffix) }

func (r release) read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// committed copies this tree, changes that are not committed included, into a repository with one commit, which
// depends on nothing but the files.
func committed(t *testing.T) release {
	t.Helper()
	r := release{clone: filepath.Join(t.TempDir(), "clone"), dir: filepath.Join(t.TempDir(), "out")}
	if err := copyRepository(r.clone); err != nil {
		t.Fatal(err)
	}
	r.git(t, "init", "-q")
	r.git(t, "add", "-A")
	r.git(t, "commit", "-q", "-m", "everything")
	r.commit = r.git(t, "rev-parse", "HEAD")
	return r
}

func (r release) git(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-C", r.clone, "-c", "user.name=Ann Example", "-c", "user.email=ann@lists.debian.org"}, args...)...)
	cmd.Env = environment("GIT_AUTHOR_DATE=1700000000 +0000", "GIT_COMMITTER_DATE=1700000000 +0000", "GIT_CONFIG_GLOBAL=/dev/null")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return strings.TrimSpace(string(out))
}

// build runs the command as a user does.
func (r release) build(args ...string) (string, error) {
	cmd := exec.Command("deploy/release/build", args...)
	cmd.Dir = r.clone
	cmd.Env = environment("SOURCE_URL=https://git.example.org/sluice")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (r release) mustBuild(t *testing.T) {
	t.Helper()
	if out, err := r.build("-o", r.dir, releaseVersion); err != nil {
		t.Fatalf("deploy/release/build: %v\n%s", err, out)
	}
}

func TestReleaseIsBuiltFromACommitAndIntoAnEmptyDirectory(t *testing.T) {
	t.Parallel()
	tool(t, "git", "git")
	newBuildah(t) // the command looks for its tools first
	r := committed(t)
	want := func(what, message string, args ...string) {
		t.Helper()
		if out, err := r.build(args...); err == nil || !strings.Contains(out, message) {
			t.Errorf("%s: %v, %q, want %q", what, err, out, message)
		}
	}
	for _, version := range []string{"", "1.2.3", "v1.2", "v1.2.3 ", "v1.2.3|x", "latest"} {
		want("version "+version, "usage: ", "-o", r.dir, version)
	}
	want("an unknown flag", "usage: ", "-x", releaseVersion)
	want("the directory of the source", "is not empty", "-o", r.clone, releaseVersion)
	if err := os.WriteFile(filepath.Join(r.clone, "README.md"), []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	want("a changed file", "not committed", "-o", r.dir, releaseVersion)
	r.git(t, "checkout", "-q", "README.md")
	if err := os.WriteFile(filepath.Join(r.clone, "cmd/sluice/new.go"), []byte("package main"), 0o644); err != nil {
		t.Fatal(err)
	}
	want("a new file", "not committed", "-o", r.dir, releaseVersion)
}

func TestReleaseIsWhatItSays(t *testing.T) {
	if !*tryRelease {
		t.Skip("takes about 30 s of CPU: go test ./deploy -release -run Release")
	}
	tool(t, "git", "git")
	tool(t, "dpkg-deb", "dpkg")
	newBuildah(t)
	t.Parallel()
	r := committed(t)
	r.mustBuild(t)

	t.Run("files and checksums", func(t *testing.T) { tryChecksums(t, r) })
	for arch, machine := range releaseArchitectures {
		t.Run("binary for "+arch, func(t *testing.T) { tryBinary(t, r, arch, machine) })
		t.Run("SBOM for "+arch, func(t *testing.T) { trySBOM(t, r, arch) })
		t.Run("package for "+arch, func(t *testing.T) { tryPackage(t, r, arch) })
		t.Run("image for "+arch, func(t *testing.T) { tryReleasedImage(t, r, arch) })
	}
	t.Run("package installed", func(t *testing.T) { tryInstalling(t, r) })
	t.Run("again", func(t *testing.T) {
		again := committed(t) // elsewhere
		again.mustBuild(t)
		const sums = "/SHA256SUMS"
		if diff := cmp.Diff(string(r.read(t, r.dir+sums)), string(r.read(t, again.dir+sums))); diff != "" {
			t.Errorf("two builds of a commit differ (-first +second):\n%s", diff)
		}
	})
}

func tryChecksums(t *testing.T, r release) {
	var want []string
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]bool{"SHA256SUMS": true, "THIRD-PARTY-LICENSES": true, releasePrefix + "oci.tar": true}
	for arch := range releaseArchitectures {
		for _, suffix := range []string{"", ".cdx.json", ".deb"} {
			files[releasePrefix+"linux_"+arch+suffix] = true
		}
	}
	for _, e := range entries {
		if !files[e.Name()] {
			t.Errorf("%s: not expected", e.Name())
		}
		delete(files, e.Name())
		if e.Name() != "SHA256SUMS" {
			want = append(want, fmt.Sprintf("%x  %s", sha256.Sum256(r.read(t, filepath.Join(r.dir, e.Name()))), e.Name()))
		}
	}
	if len(files) > 0 {
		t.Errorf("missing: %q", slices.Sorted(maps.Keys(files)))
	}
	got := strings.Split(strings.TrimSpace(string(r.read(t, r.dir+"/SHA256SUMS"))), "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("SHA256SUMS (-want +got):\n%s", diff)
	}
}

func tryBinary(t *testing.T, r release, arch string, machine elf.Machine) {
	path := r.name("linux_" + arch)
	file, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if file.Machine != machine {
		t.Errorf("for %v", file.Machine)
	}
	if slices.ContainsFunc(file.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		t.Error("not static")
	}
	binary := r.read(t, path)
	for _, dir := range []string{r.clone, repository} {
		if abs, err := filepath.Abs(dir); err != nil || bytes.Contains(binary, []byte(abs)) {
			t.Errorf("contains a path of the machine that built it: %s (%v)", abs, err)
		}
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if settings["vcs.revision"] != r.commit || settings["vcs.modified"] != "false" || settings["GOARCH"] != arch || settings["-trimpath"] != "true" {
		t.Errorf("built with %v, want commit %s", settings, r.commit)
	}
	program := []string{path}
	if arch != hostArchitecture(t) {
		program = []string{tool(t, emulators[arch], "qemu-user"), path}
	}
	var said struct {
		Version, Commit string
		Modified        bool
	}
	if err := json.Unmarshal([]byte(command(t, program[0], append(program[1:], "version", "--json")...)), &said); err != nil {
		t.Fatal(err)
	}
	if said.Version != releaseVersion || said.Commit != r.commit || said.Modified {
		t.Errorf("sluice version: %+v, want %s of %s", said, releaseVersion, r.commit)
	}
	tryEcho(t, ready(t, run(t, exec.Command(program[0], append(program[1:], child.Arguments()...)...))))
}

func hostArchitecture(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(command(t, "go", "env", "GOHOSTARCH"))
}

// tryEcho sends a message through a gateway.
func tryEcho(t *testing.T, g *child.Process) {
	t.Helper()
	c, err := connect(g.Public, "/echo", "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := echo(c, "released"); err != nil {
		t.Error(err)
	}
}

// The SBOM lists what Go says about the binary, and names the binary by its hash.
func trySBOM(t *testing.T, r release, arch string) {
	path := r.name("linux_" + arch)
	var bom struct {
		BOMFormat string
		Metadata  struct {
			Component struct{ Name, Version string }
			// What the tool found in the binary.
			Properties []struct{ Name, Value string }
		}
		Components []struct{ Name, Version, PURL string }
	}
	if err := json.Unmarshal(r.read(t, path+".cdx.json"), &bom); err != nil {
		t.Fatal(err)
	}
	if c := bom.Metadata.Component; bom.BOMFormat != "CycloneDX" || c.Name != "sluice" || c.Version != releaseVersion {
		t.Errorf("%s of %+v", bom.BOMFormat, c)
	}
	hash := fmt.Sprintf("%x", sha256.Sum256(r.read(t, path)))
	if !slices.Contains(bom.Metadata.Properties, struct{ Name, Value string }{"cdx:gomod:binary:hash:SHA-256", hash}) {
		t.Errorf("the hash of the binary, %s, is not in %v", hash, bom.Metadata.Properties)
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"std " + info.GoVersion}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		want = append(want, m.Path+" "+m.Version)
	}
	if len(want) < 10 {
		t.Fatalf("built from %q", want)
	}
	var got []string
	for _, c := range bom.Components {
		got = append(got, c.Name+" "+c.Version)
		if !strings.HasPrefix(c.PURL, "pkg:golang/"+c.Name+"@") {
			t.Errorf("%s has the package URL %s", c.Name, c.PURL)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("modules of the binary and components (-want +got):\n%s", diff)
	}
	licenses := string(r.read(t, r.dir+"/THIRD-PARTY-LICENSES"))
	for _, module := range want {
		if !strings.HasPrefix(module, "std ") && !strings.Contains(licenses, "\n==== "+module+": ") {
			t.Errorf("THIRD-PARTY-LICENSES has nothing of %s", module)
		}
	}
}
