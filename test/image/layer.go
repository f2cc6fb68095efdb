package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/pem"
	"io"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// An entry is a file of a layer.
type entry struct {
	name    string
	mode    int64
	content []byte
}

// layer adds a layer with one file and the folders above it, all root's and from the beginning of time, and returns its descriptor and the digest
// of what it is unpacked.
func (i *Image) layer(e entry) (descriptor, string, error) {
	var unpacked bytes.Buffer
	w := tar.NewWriter(&unpacked)
	for at, c := range e.name {
		if c != '/' {
			continue
		}
		if err := w.WriteHeader(header(e.name[:at+1], tar.TypeDir, 0o755, 0)); err != nil {
			return descriptor{}, "", err
		}
	}
	if err := w.WriteHeader(header(e.name, tar.TypeReg, e.mode, len(e.content))); err != nil {
		return descriptor{}, "", err
	}
	if _, err := w.Write(e.content); err != nil {
		return descriptor{}, "", err
	}
	if err := w.Close(); err != nil {
		return descriptor{}, "", err
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed) // its header has neither a name nor a time
	if _, err := io.Copy(z, bytes.NewReader(unpacked.Bytes())); err != nil {
		return descriptor{}, "", err
	}
	if err := z.Close(); err != nil {
		return descriptor{}, "", err
	}
	return i.add(typeLayer, packed.Bytes()), digest(unpacked.Bytes()), nil
}

func header(name string, kind byte, mode int64, size int) *tar.Header {
	return &tar.Header{Name: name, Typeflag: kind, Mode: mode, Size: int64(size), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
}

// rootsFile is where Go looks for certificate authorities.
const rootsFile = "etc/ssl/certs/ca-certificates.crt"

// roots are Mozilla's certificate authorities, from a module of Go's own, so that go.sum vouches for them. Those that are trusted for a part of
// their certificates only are left out: a file cannot say that.
func roots() []byte {
	var out bytes.Buffer
	for r := range bundle.Roots() {
		if r.Constraint == nil {
			out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate}))
		}
	}
	return out.Bytes()
}
