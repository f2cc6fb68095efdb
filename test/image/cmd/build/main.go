// Command build builds Podlane's container image for amd64 and arm64 without a container engine: dist/podlane-image.tar, the same as a folder
// for crane, and a bill of materials for each platform.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"podlane.dev/podlane/test/image"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	o := image.Options{Root: ".", Package: "./cmd/podlane", Progress: os.Stderr}
	flag.StringVar(&o.Version, "version", "devel", "version of Podlane")
	name := flag.String("name", "podlane:devel", "name of the image in the archive, with its tag")
	platforms := flag.String("platforms", "linux/amd64,linux/arm64", "platforms, comma-separated")
	created := flag.Int64("created", 0, "when the image was made, in seconds since 1970; equal numbers give equal images")
	out := flag.String("out", "dist", "folder to write to")
	flag.Parse()
	for p := range strings.SplitSeq(*platforms, ",") {
		system, arch, ok := strings.Cut(p, "/")
		if !ok || system == "" || arch == "" {
			return fmt.Errorf("-platforms: %q is not a platform: write linux/amd64", p)
		}
		o.Platforms = append(o.Platforms, image.Platform{OS: system, Architecture: arch})
	}
	o.Created = time.Unix(*created, 0)
	built, err := image.Build(ctx, o)
	if err != nil {
		return err
	}
	return write(built, o, *out, *name)
}

// write puts everything into a folder, in place of what is there.
func write(built *image.Image, o image.Options, out, name string) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	folder := filepath.Join(out, "podlane-image")
	if _, err := os.Stat(filepath.Join(folder, "oci-layout")); err == nil {
		err = os.RemoveAll(folder)
		if err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := built.WriteFolder(folder); err != nil {
		return err
	}
	archive, err := os.Create(folder + ".tar")
	if err != nil {
		return err
	}
	if err := errors.Join(built.WriteArchive(archive, name), archive.Close()); err != nil {
		return err
	}
	files := []string{archive.Name(), folder + "/"}
	for _, p := range o.Platforms {
		file := filepath.Join(out, fmt.Sprintf("podlane-%s-%s.cdx.json", p.OS, p.Architecture))
		if err := os.WriteFile(file, built.BillOfMaterials(p), 0o644); err != nil {
			return err
		}
		files = append(files, file)
	}
	fmt.Printf("%s@%s\n", name, built.Digest())
	for _, f := range files {
		fmt.Println(" ", f)
	}
	return nil
}
