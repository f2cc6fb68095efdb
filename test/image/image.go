package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Options say what to build. All but Go and Progress are needed.
type Options struct {
	// Root is the folder of the module, Package the command in it.
	Root, Package string
	// Version is what `podlane version` says, and a label.
	Version   string
	Platforms []Platform
	// Created is written into the image: the time of the commit, so that it is the same again.
	Created time.Time
	// Go is the go command; "go" unless set.
	Go string
	// Progress is told what is done, as it takes minutes; nobody unless set.
	Progress io.Writer
}

// An Image is an image for some platforms, in memory. It is read only once built.
type Image struct {
	options Options
	blobs   map[string][]byte
	index   index
	// root describes the index.
	root descriptor
	boms map[Platform][]byte
}

// The labels of the image, as the Dockerfile has them.
var labels = map[string]string{
	"org.opencontainers.image.title":       "Podlane",
	"org.opencontainers.image.description": "A Kubernetes ingress controller",
	"org.opencontainers.image.licenses":    "Apache-2.0",
	"org.opencontainers.image.source":      "https://podlane.dev/podlane",
}

// Build compiles and puts together an image. It runs the go command once for each platform.
func Build(ctx context.Context, o Options) (*Image, error) {
	if len(o.Platforms) == 0 {
		return nil, errors.New("build image: no platforms")
	}
	if o.Go == "" {
		o.Go = "go"
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	i := &Image{options: o, blobs: map[string][]byte{}, boms: map[Platform][]byte{}}
	i.index = index{SchemaVersion: 2, MediaType: typeIndex, Annotations: i.labels()}
	for _, p := range o.Platforms {
		start := time.Now()
		fmt.Fprintf(o.Progress, "building %s for %s (some minutes the first time)\n", o.Package, p)
		d, err := i.platform(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("build image for %s: %w", p, err)
		}
		fmt.Fprintf(o.Progress, "building %s for %s: done in %s\n", o.Package, p, time.Since(start).Round(time.Second))
		i.index.Manifests = append(i.index.Manifests, d)
	}
	var err error
	i.root, err = i.addJSON(typeIndex, i.index)
	return i, err
}

// Digest is the image's name by content, for all platforms: what a registry shows, and controller.image.digest of the chart takes.
func (i *Image) Digest() string { return i.root.Digest }

// BillOfMaterials returns what is in the image for one platform, as CycloneDX; nil for a platform that was not built.
func (i *Image) BillOfMaterials(p Platform) []byte { return i.boms[p] }

// labels are the fixed ones and those of this version.
func (i *Image) labels() map[string]string {
	all := map[string]string{"org.opencontainers.image.version": i.options.Version, "org.opencontainers.image.created": stamp(i.options.Created)}
	maps.Copy(all, labels)
	return all
}

// platform adds the image for one platform.
func (i *Image) platform(ctx context.Context, p Platform) (descriptor, error) {
	program, err := i.compile(ctx, p)
	if err != nil {
		return descriptor{}, err
	}
	if i.boms[p], err = i.billOfMaterials(p, program); err != nil {
		return descriptor{}, err
	}
	created := stamp(i.options.Created)
	c := configuration{Created: created, Platform: p}
	c.Config.User = "65532:65532" // as a number, so that Kubernetes can see that it is not root
	c.Config.ExposedPorts = map[string]struct{}{"8080/tcp": {}, "8443/tcp": {}, "9090/tcp": {}}
	c.Config.Entrypoint, c.Config.Cmd, c.Config.WorkingDir = []string{"/podlane"}, []string{"controller"}, "/"
	c.Config.Labels = i.labels()
	c.RootFS.Type = "layers"
	m := manifest{SchemaVersion: 2, MediaType: typeManifest, Annotations: i.labels()}
	for _, e := range []entry{{rootsFile, 0o644, roots()}, {"podlane", 0o755, program}} {
		d, unpacked, err := i.layer(e)
		if err != nil {
			return descriptor{}, err
		}
		m.Layers = append(m.Layers, d)
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, unpacked)
		c.History = append(c.History, step{Created: created, CreatedBy: "test/image: /" + e.name})
	}
	if m.Config, err = i.addJSON(typeConfig, c); err != nil {
		return descriptor{}, err
	}
	d, err := i.addJSON(typeManifest, m)
	d.Platform = &p
	return d, err
}

// compile returns the program, made with the flags of the Dockerfile: no paths, no version control stamp, no C library.
func (i *Image) compile(ctx context.Context, p Platform) ([]byte, error) {
	dir, err := os.MkdirTemp("", "podlane-image-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "podlane")
	cmd := exec.CommandContext(ctx, i.options.Go, "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -X main.version="+i.options.Version, "-o", program, i.options.Package)
	cmd.Dir = i.options.Root
	// The flags of the environment would make another program of the same sources.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+p.OS, "GOARCH="+p.Architecture, "GOWORK=off", "GOFLAGS=", "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build %s: %w\n%s", i.options.Package, err, out)
	}
	return os.ReadFile(program)
}
