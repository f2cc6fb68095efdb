package image

import (
	"archive/tar"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// layoutFile is what says that a folder is an OCI image layout.
const layoutFile = `{"imageLayoutVersion":"1.0.0"}`

// WriteArchive writes the image as an archive of an OCI image layout, under a name such as "registry.example.com/podlane:v1". Docker,
// containerd, Podman and skopeo read it.
func (i *Image) WriteArchive(w io.Writer, name string) error {
	root := i.root
	_, tag, _ := strings.Cut(name[strings.LastIndex(name, "/")+1:], ":")
	// The first is containerd's and Docker's, the second the specification's.
	root.Annotations = map[string]string{"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag}
	top, err := json.Marshal(index{SchemaVersion: 2, MediaType: typeIndex, Manifests: []descriptor{root}})
	if err != nil {
		return err
	}
	out := tar.NewWriter(w)
	for _, dir := range []string{"blobs/", "blobs/sha256/"} {
		if err := out.WriteHeader(header(dir, tar.TypeDir, 0o755, 0)); err != nil {
			return err
		}
	}
	files := i.files()
	files["index.json"] = top
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := out.WriteHeader(header(name, tar.TypeReg, 0o644, len(files[name]))); err != nil {
			return err
		}
		if _, err := out.Write(files[name]); err != nil {
			return err
		}
	}
	return out.Close()
}

// WriteFolder writes the image as a folder, which must not be there yet, in OCI's image layout. Its index.json is the image itself, so that
// `crane push --index` gives the image in the registry the digest that it has here.
func (i *Image) WriteFolder(dir string) error {
	files := i.files()
	files["index.json"] = i.blobs[i.root.Digest]
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(name)), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// files are those of a layout but for index.json.
func (i *Image) files() map[string][]byte {
	files := map[string][]byte{"oci-layout": []byte(layoutFile)}
	for digest, content := range i.blobs {
		files["blobs/"+strings.Replace(digest, ":", "/", 1)] = content
	}
	return files
}
