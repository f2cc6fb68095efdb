package registry

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// An Image is one program, or a few, as the only files of a container.
type Image struct {
	// Name is the registry's name and the repository, "ghcr.io/podlane/podlane", without a tag: the image is served under every tag.
	Name string
	// Files are what the image holds: the path in it to the path here.
	Files map[string]string
	// Links are symbolic links: the path in the image to where it leads.
	Links map[string]string
	// Entrypoint and Cmd are what runs, as in a Dockerfile.
	Entrypoint, Cmd []string
	// User is who runs it: "65532:65532"; root unless set.
	User string
}

// A descriptor names a blob, as OCI's image format does.
type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

const (
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar"
)

// build writes the image's blobs into dir, each under its digest, and returns the manifest's descriptor.
func (i Image) build(dir string) (descriptor, error) {
	layer, err := i.layer(dir)
	if err != nil {
		return descriptor{}, err
	}
	config, err := writeJSON(dir, configType, map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Entrypoint": i.Entrypoint, "Cmd": i.Cmd, "User": i.User, "Env": []string{"PATH=/bin:/"}, "WorkingDir": "/"},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{layer.Digest}},
	})
	if err != nil {
		return descriptor{}, err
	}
	return writeJSON(dir, manifestType, map[string]any{
		"schemaVersion": 2, "mediaType": manifestType, "config": config, "layers": []descriptor{layer},
	})
}

// layer writes all files into one layer that is not compressed: it never leaves this machine.
func (i Image) layer(dir string) (descriptor, error) {
	f, err := os.CreateTemp(dir, ".layer-")
	if err != nil {
		return descriptor{}, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	sum := sha256.New()
	out := tar.NewWriter(io.MultiWriter(f, sum))
	folders := map[string]bool{}
	for _, name := range append(slices.Sorted(maps.Keys(i.Files)), append(slices.Sorted(maps.Keys(i.Links)), "tmp/.", "var/.", "etc/.")...) {
		for _, folder := range parents(name) {
			if !folders[folder] {
				folders[folder] = true
				if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: folder + "/", Mode: modeOf(folder)}); err != nil {
					return descriptor{}, err
				}
			}
		}
		if err := i.entry(out, name); err != nil {
			return descriptor{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := out.Close(); err != nil {
		return descriptor{}, err
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return descriptor{}, err
	}
	d := descriptor{MediaType: layerType, Digest: "sha256:" + hex.EncodeToString(sum.Sum(nil)), Size: size}
	return d, os.Rename(f.Name(), filepath.Join(dir, d.Digest))
}

func (i Image) entry(out *tar.Writer, name string) error {
	if to, ok := i.Links[name]; ok {
		return out.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: strings.TrimPrefix(name, "/"), Linkname: to, Mode: 0o777})
	}
	source, ok := i.Files[name]
	if !ok {
		return nil // a folder alone
	}
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(name, "/"), Mode: 0o755, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return err
}

// parents are the folders that a file lies in, outermost first.
func parents(name string) []string {
	var all []string
	for dir := path.Dir(strings.TrimPrefix(name, "/")); dir != "."; dir = path.Dir(dir) {
		all = append([]string{dir}, all...)
	}
	return all
}

func modeOf(folder string) int64 {
	if folder == "tmp" {
		return 0o1777
	}
	return 0o755
}

func writeJSON(dir, kind string, value any) (descriptor, error) {
	content, err := json.Marshal(value)
	if err != nil {
		return descriptor{}, err
	}
	sum := sha256.Sum256(content)
	d := descriptor{MediaType: kind, Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: int64(len(content))}
	return d, os.WriteFile(filepath.Join(dir, d.Digest), content, 0o644)
}
