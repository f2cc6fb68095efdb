// Package registry owns the container images of the tests' node. It makes each from static programs, without Docker or a download, and serves
// them as the registries that their names say: containerd is told to ask here for whatever it is to pull. So Pods start exactly as
// anywhere, with any pull policy. It knows nothing of Kubernetes.
package registry

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A Registry serves images, for reading alone. It is an http.Handler, and may be used by any number of clients at once.
type Registry struct {
	dir       string
	manifests map[string]descriptor
}

// New makes the images, whose blobs it writes into dir, and returns a Registry that serves them from there.
func New(dir string, images []Image) (*Registry, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	r := &Registry{dir: dir, manifests: map[string]descriptor{}}
	for _, image := range images {
		d, err := image.build(dir)
		if err != nil {
			return nil, fmt.Errorf("make the image %s: %w", image.Name, err)
		}
		r.manifests[image.Name] = d
	}
	return r, nil
}

// ServeHTTP answers what OCI's distribution protocol asks for in a pull. The parameter ns is the registry that the client was looking for.
func (r *Registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	if q.Method != http.MethodGet && q.Method != http.MethodHead {
		http.Error(w, "this registry is read only", http.StatusMethodNotAllowed)
		return
	}
	rest, ok := strings.CutPrefix(q.URL.Path, "/v2/")
	if ok && rest == "" {
		return
	}
	name, reference, isManifest := cutLast(rest, "/manifests/")
	_, digest, isBlob := cutLast(rest, "/blobs/")
	switch {
	case ok && isManifest:
		d, known := r.manifests[q.URL.Query().Get("ns")+"/"+name]
		if strings.HasPrefix(reference, "sha256:") {
			d, known = descriptor{MediaType: manifestType, Digest: reference}, true
		}
		if !known {
			http.Error(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"this node has no such image"}]}`, http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", d.MediaType)
		r.blob(w, q, d.Digest)
	case ok && isBlob:
		w.Header().Set("Content-Type", "application/octet-stream")
		r.blob(w, q, digest)
	default:
		http.NotFound(w, q)
	}
}

// blob serves what has this digest, and refuses names that are none: they are names of files here.
func (r *Registry) blob(w http.ResponseWriter, q *http.Request, digest string) {
	hex, ok := strings.CutPrefix(digest, "sha256:")
	if !ok || strings.Trim(hex, "0123456789abcdef") != "" {
		http.Error(w, "no digest: "+strconv.Quote(digest), http.StatusBadRequest)
		return
	}
	w.Header().Set("Docker-Content-Digest", digest)
	http.ServeFile(w, q, filepath.Join(r.dir, digest))
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
