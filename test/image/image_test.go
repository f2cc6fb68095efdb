package image_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/x509"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"podlane.dev/podlane/test/image"
)

var (
	amd64 = image.Platform{OS: "linux", Architecture: "amd64"}
	arm64 = image.Platform{OS: "linux", Architecture: "arm64"}
)

// hello is how to build the image of a small program, from a copy of its sources in a folder of its own.
func hello(t *testing.T) image.Options {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/hello")); err != nil {
		t.Fatal(err)
	}
	return image.Options{Root: dir, Package: ".", Version: "v1.2.3", Platforms: []image.Platform{amd64, arm64}, Created: time.Unix(1e9, 0)}
}

func build(t *testing.T, o image.Options) *image.Image {
	t.Helper()
	i, err := image.Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// A layout is an OCI archive as somebody else reads it: files by name, and which of them were referred to.
type layout struct {
	t     *testing.T
	files map[string][]byte
	used  map[string]bool
}

func read(t *testing.T, i *image.Image) *layout {
	t.Helper()
	var archive bytes.Buffer
	if err := i.WriteArchive(&archive, "registry.example.com:5000/podlane:v1.2.3"); err != nil {
		t.Fatal(err)
	}
	return &layout{t: t, files: untar(t, &archive), used: map[string]bool{"index.json": true, "oci-layout": true}}
}

func untar(t *testing.T, r io.Reader) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || !h.ModTime.Equal(time.Unix(0, 0)) {
			t.Errorf("%s is of %d:%d and from %s", h.Name, h.Uid, h.Gid, h.ModTime)
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		content, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = content
		if executable := h.Mode&0o111 != 0; executable != (h.Name == "podlane") {
			t.Errorf("%s has the mode %o", h.Name, h.Mode)
		}
	}
}

// reference is a descriptor.
type reference struct {
	MediaType, Digest string
	Size              int
	Platform          *image.Platform
	Annotations       map[string]string
}

// blob returns what a descriptor refers to, which has to be that.
func (l *layout) blob(r reference) []byte {
	l.t.Helper()
	name := "blobs/sha256/" + strings.TrimPrefix(r.Digest, "sha256:")
	l.used[name] = true
	content, ok := l.files[name]
	if sum := sha256.Sum256(content); !ok || len(content) != r.Size || "sha256:"+hex.EncodeToString(sum[:]) != r.Digest {
		l.t.Fatalf("%s of %d bytes is there: %t, with %d", r.Digest, r.Size, ok, len(content))
	}
	return content
}

func decode[T any](t *testing.T, content []byte) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(content, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

type list struct{ Manifests []reference }

// images returns the manifests' descriptors, by platform.
func (l *layout) images(digest string) []reference {
	l.t.Helper()
	top := decode[list](l.t, l.files["index.json"])
	if len(top.Manifests) != 1 || top.Manifests[0].Digest != digest || top.Manifests[0].MediaType != "application/vnd.oci.image.index.v1+json" {
		l.t.Fatalf("the archive holds %v, want the image %s", top.Manifests, digest)
	}
	want := map[string]string{
		"io.containerd.image.name": "registry.example.com:5000/podlane:v1.2.3", "org.opencontainers.image.ref.name": "v1.2.3",
	}
	if diff := cmp.Diff(want, top.Manifests[0].Annotations); diff != "" {
		l.t.Errorf("the image's name: %s", diff)
	}
	return decode[list](l.t, l.blob(top.Manifests[0])).Manifests
}

type imageManifest struct {
	Config reference
	Layers []reference
}

// imageConfig says how to run an image.
type imageConfig struct {
	OS, Architecture string
	Config           struct {
		User            string
		Entrypoint, Cmd []string
		ExposedPorts    map[string]any
		Labels          map[string]string
	}
	RootFS struct {
		DiffIDs []string `json:"diff_ids"`
	}
}

func (l *layout) config(r reference) imageConfig {
	l.t.Helper()
	return decode[imageConfig](l.t, l.blob(decode[imageManifest](l.t, l.blob(r)).Config))
}

// unpack checks one platform's image and returns its files.
func (l *layout) unpack(r reference) map[string][]byte {
	l.t.Helper()
	m, c := decode[imageManifest](l.t, l.blob(r)), l.config(r)
	if got := (image.Platform{OS: c.OS, Architecture: c.Architecture}); got != *r.Platform {
		l.t.Errorf("the image for %s says it is for %s", r.Platform, got)
	}
	if len(c.RootFS.DiffIDs) != len(m.Layers) {
		l.t.Fatalf("%d layers, and names for %d", len(m.Layers), len(c.RootFS.DiffIDs))
	}
	got := []string{c.Config.User, strings.Join(c.Config.Entrypoint, " "), strings.Join(c.Config.Cmd, " "), c.Config.Labels["org.opencontainers.image.version"]}
	got = append(got, slices.Sorted(maps.Keys(c.Config.ExposedPorts))...)
	if diff := cmp.Diff([]string{"65532:65532", "/podlane", "controller", "v1.2.3", "8080/tcp", "8443/tcp", "9090/tcp"}, got); diff != "" {
		l.t.Error(diff)
	}
	files := map[string][]byte{}
	for n, layer := range m.Layers {
		z, err := gzip.NewReader(bytes.NewReader(l.blob(layer)))
		if err != nil {
			l.t.Fatal(err)
		}
		unpacked, err := io.ReadAll(z)
		if err != nil {
			l.t.Fatal(err)
		}
		if sum := sha256.Sum256(unpacked); c.RootFS.DiffIDs[n] != "sha256:"+hex.EncodeToString(sum[:]) {
			l.t.Errorf("layer %d is not %s when it is unpacked", n, c.RootFS.DiffIDs[n])
		}
		maps.Copy(files, untar(l.t, bytes.NewReader(unpacked)))
	}
	return files
}

func TestImage(t *testing.T) {
	t.Parallel()
	i := build(t, hello(t))
	l := read(t, i)
	machines := map[image.Platform]elf.Machine{amd64: elf.EM_X86_64, arm64: elf.EM_AARCH64}
	found := l.images(i.Digest())
	if len(found) != 2 {
		t.Fatalf("images for %d platforms: %v", len(found), found)
	}
	for _, r := range found {
		files := l.unpack(r)
		if diff := cmp.Diff([]string{"etc/ssl/certs/ca-certificates.crt", "podlane"}, slices.Sorted(maps.Keys(files))); diff != "" {
			t.Fatalf("files: %s", diff)
		}
		program, err := elf.NewFile(bytes.NewReader(files["podlane"]))
		if err != nil {
			t.Fatal(err)
		}
		if program.Machine != machines[*r.Platform] {
			t.Errorf("the program for %s is for %s", r.Platform, program.Machine)
		}
		if libraries, err := program.ImportedLibraries(); err != nil || len(libraries) > 0 {
			t.Errorf("the program needs %v, which the image lacks: %v", libraries, err)
		}
		checkAuthorities(t, files["etc/ssl/certs/ca-certificates.crt"])
		if r.Platform.Architecture == runtime.GOARCH {
			if got := execute(t, files["podlane"]); got != "hello v1.2.3\n" {
				t.Errorf("the program says %q", got)
			}
		}
	}
	for name := range l.files {
		if !l.used[name] {
			t.Errorf("nothing refers to %s", name)
		}
	}
}

func checkAuthorities(t *testing.T, file []byte) {
	t.Helper()
	n := 0
	for block, rest := pem.Decode(file); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil || !c.IsCA {
			t.Fatalf("certificate %d is no authority: %v", n, err)
		}
		n++
	}
	if n < 50 {
		t.Errorf("only %d certificate authorities", n)
	}
}

func execute(t *testing.T, program []byte, args ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "podlane")
	if err := os.WriteFile(file, program, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), file, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// TestReproducible: the same sources in another folder give the same image, whatever the environment says; others do not.
func TestReproducible(t *testing.T) {
	first := build(t, hello(t)).Digest()
	t.Setenv("GOFLAGS", "-ldflags=-w -tags=other")
	t.Setenv("GOAMD64", "v3")
	t.Setenv("TZ", "Pacific/Auckland")
	if again := build(t, hello(t)).Digest(); again != first {
		t.Errorf("the image is %s, and built again %s", first, again)
	}
	for name, change := range map[string]func(*image.Options){
		"version": func(o *image.Options) { o.Version = "v1.2.4" },
		"time":    func(o *image.Options) { o.Created = o.Created.Add(time.Second) },
		"sources": func(o *image.Options) {
			if err := os.WriteFile(filepath.Join(o.Root, "more.go"), []byte("package main\n\nvar more = version\n\nfunc init() { version += more }\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		},
		"platforms": func(o *image.Options) { o.Platforms = o.Platforms[:1] },
	} {
		o := hello(t)
		change(&o)
		if other := build(t, o).Digest(); other == first {
			t.Errorf("with another %s the image is still %s", name, other)
		}
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	o := hello(t)
	o.Platforms = nil
	if _, err := image.Build(t.Context(), o); err == nil || !strings.Contains(err.Error(), "no platforms") {
		t.Errorf("without platforms: %v", err)
	}
	o = hello(t)
	o.Package = "./missing"
	if _, err := image.Build(t.Context(), o); err == nil || !strings.Contains(err.Error(), "linux/amd64: go build ./missing") {
		t.Errorf("without sources: %v", err)
	}
}
