package deploy_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// files reads a tar archive's regular files.
func files(t *testing.T, archive io.Reader) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	for r := tar.NewReader(archive); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimSuffix(header.Name, "/") == "data" { // for a volume, which gets its owner and mode
			if header.Uid != 65532 || header.Gid != 65532 || header.Mode&0o777 != 0o700 {
				t.Errorf("%s: owner %d:%d, mode %o", header.Name, header.Uid, header.Gid, header.Mode)
			}
			continue
		}
		if header.Uid != 0 || header.Gid != 0 || header.ModTime.Unix() != 1700000000 && header.Typeflag == tar.TypeReg {
			t.Errorf("%s: owner %d:%d, time %v", header.Name, header.Uid, header.Gid, header.ModTime)
		}
		if header.Typeflag == tar.TypeReg {
			if found[header.Name], err = io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// descriptor refers to a blob of an OCI layout.
type descriptor struct {
	Digest    string
	MediaType string
	Platform  struct{ OS, Architecture string }
}

// blob returns what a descriptor refers to, and checks its digest.
func blob(t *testing.T, layout map[string][]byte, d descriptor) []byte {
	t.Helper()
	name := "./blobs/sha256/"
	_, hash, _ := bytes.Cut([]byte(d.Digest), []byte("sha256:"))
	data, ok := layout[name+string(hash)]
	if sum := fmt.Sprintf("%x", sha256.Sum256(data)); !ok || sum != string(hash) {
		t.Fatalf("blob %s: in the archive is %v, with the hash %s", d.Digest, ok, sum)
	}
	return data
}

func decode[T any](t *testing.T, data []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	return v
}

type imageIndex struct{ Manifests []descriptor }

func tryReleasedImage(t *testing.T, r release, arch string) {
	t.Parallel()
	layout := files(t, bytes.NewReader(r.read(t, r.name("oci.tar"))))
	top := decode[imageIndex](t, layout["./index.json"])
	if len(top.Manifests) != 1 {
		t.Fatalf("index: %+v", top)
	}
	both := decode[imageIndex](t, blob(t, layout, top.Manifests[0]))
	i := slices.IndexFunc(both.Manifests, func(d descriptor) bool { return d.Platform.Architecture == arch && d.Platform.OS == "linux" })
	if i < 0 || len(both.Manifests) != len(releaseArchitectures) {
		t.Fatalf("images: %+v", both)
	}
	manifest := decode[struct {
		Config descriptor
		Layers []descriptor
	}](t, blob(t, layout, both.Manifests[i]))
	image := decode[struct {
		Architecture, OS string
		Config           struct {
			imageConfig
			Labels map[string]string
		}
	}](t, blob(t, layout, manifest.Config))
	if image.Architecture != arch || image.OS != "linux" {
		t.Errorf("an image for %s/%s", image.OS, image.Architecture)
	}
	got := image.Config.imageConfig
	got.Env = slices.DeleteFunc(got.Env, isPath)
	want := imageSettings()
	want.Healthcheck.Test = nil // the format has none
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the image's configuration (-want +got):\n%s", diff)
	}
	labels := maps.Clone(image.Config.Labels)
	maps.DeleteFunc(labels, func(key, _ string) bool { return key == "io.buildah.version" })
	const prefix = "org.opencontainers.image."
	if diff := cmp.Diff(map[string]string{
		prefix + "title": "sluice", prefix + "description": "Broadcast server for WebSocket and SSE", prefix + "licenses": "Apache-2.0",
		prefix + "version": releaseVersion, prefix + "revision": r.commit, prefix + "created": "2023-11-14T22:13:20+00:00",
		prefix + "source": "https://git.example.org/sluice",
	}, labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}

	inside := map[string][]byte{}
	for _, layer := range manifest.Layers {
		unpacked, err := gzip.NewReader(bytes.NewReader(blob(t, layout, layer)))
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(inside, files(t, unpacked))
	}
	names := slices.Sorted(maps.Keys(inside))
	if diff := cmp.Diff([]string{"etc/ssl/certs/ca-certificates.crt", "licenses/LICENSE", "licenses/THIRD-PARTY-LICENSES", "sluice"}, names); diff != "" {
		t.Errorf("files of the image (-want +got):\n%s", diff)
	}
	if !bytes.Equal(inside["sluice"], r.read(t, r.name("linux_"+arch))) {
		t.Error("/sluice is not the released binary")
	}
	if !x509.NewCertPool().AppendCertsFromPEM(inside["etc/ssl/certs/ca-certificates.crt"]) {
		t.Error("no certificate in ca-certificates.crt")
	}
}
