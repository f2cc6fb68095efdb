package registry_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"podlane.dev/podlane/test/node/registry"
)

// A blob is what a manifest says about one.
type blob struct {
	MediaType, Digest string
	Size              int64
}

// start serves one image, whose program is this test's file.
func start(t *testing.T) *httptest.Server {
	t.Helper()
	r, err := registry.New(filepath.Join(t.TempDir(), "images"), []registry.Image{{
		Name: "registry.example.com/team/app", Files: map[string]string{"/bin/app": "registry_test.go"}, Links: map[string]string{"/bin/ls": "app"},
		Entrypoint: []string{"/bin/app"}, User: "65532:65532",
	}})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	return s
}

func get(t *testing.T, s *httptest.Server, method, path string) (*http.Response, []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := s.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, body
}

// fetch gets a blob and holds it to what was said about it.
func fetch(t *testing.T, s *httptest.Server, b blob) []byte {
	t.Helper()
	answer, body := get(t, s, http.MethodGet, "/v2/team/app/blobs/"+b.Digest+"?ns=registry.example.com")
	sum := sha256.Sum256(body)
	if got := "sha256:" + hex.EncodeToString(sum[:]); answer.StatusCode != http.StatusOK || got != b.Digest || int64(len(body)) != b.Size {
		t.Fatalf("%v: status %d, digest %s, %d bytes", b, answer.StatusCode, got, len(body))
	}
	return body
}

// A pull asks for the manifest by tag, then by digest, then for its blobs.
func TestPull(t *testing.T) {
	t.Parallel()
	s := start(t)
	head, _ := get(t, s, http.MethodHead, "/v2/team/app/manifests/v7?ns=registry.example.com")
	digest := head.Header.Get("Docker-Content-Digest")
	answer, body := get(t, s, http.MethodGet, "/v2/team/app/manifests/"+digest+"?ns=registry.example.com")
	var manifest struct {
		Config blob
		Layers []blob
	}
	if err := json.Unmarshal(body, &manifest); err != nil || answer.StatusCode != http.StatusOK || len(manifest.Layers) != 1 {
		t.Fatalf("manifest %q: %s %s %v", digest, answer.Status, body, err)
	}
	if head.ContentLength != int64(len(body)) || answer.Header.Get("Content-Type") != "application/vnd.oci.image.manifest.v1+json" {
		t.Errorf("the head says %d bytes, the manifest has %d of type %q", head.ContentLength, len(body), answer.Header.Get("Content-Type"))
	}
	var config struct {
		Config struct {
			Entrypoint []string
			User       string
		} `json:"config"`
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(fetch(t, s, manifest.Config), &config); err != nil {
		t.Fatal(err)
	}
	if c := config.Config; len(c.Entrypoint) != 1 || c.Entrypoint[0] != "/bin/app" || c.User != "65532:65532" || config.RootFS.DiffIDs[0] != manifest.Layers[0].Digest {
		t.Errorf("config %+v", config)
	}
	checkLayer(t, fetch(t, s, manifest.Layers[0]))
}

// checkLayer wants folders before what is in them, the program with its bytes and the right to run, and the link.
func checkLayer(t *testing.T, layer []byte) {
	t.Helper()
	source, err := os.ReadFile("registry_test.go")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for in := tar.NewReader(bytes.NewReader(layer)); ; {
		h, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		seen[h.Name] = true
		switch h.Name {
		case "bin/app":
			content, err := io.ReadAll(in)
			if err != nil || !bytes.Equal(content, source) || h.Mode != 0o755 || !seen["bin/"] {
				t.Errorf("%s: %d bytes, mode %o, folder first %t, %v", h.Name, len(content), h.Mode, seen["bin/"], err)
			}
		case "bin/ls":
			if h.Typeflag != tar.TypeSymlink || h.Linkname != "app" {
				t.Errorf("%s leads to %q", h.Name, h.Linkname)
			}
		case "tmp/":
			if h.Mode != 0o1777 {
				t.Errorf("%s has mode %o", h.Name, h.Mode)
			}
		}
	}
	for _, name := range []string{"bin/app", "bin/ls", "tmp/", "var/", "etc/"} {
		if !seen[name] {
			t.Errorf("the layer lacks %s: %v", name, seen)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	s := start(t)
	for path, want := range map[string]int{
		"/v2/":                                 http.StatusOK,
		"/v2/team/app/manifests/v1?ns=ghcr.io": http.StatusNotFound,
		"/v2/team/other/manifests/v1?ns=registry.example.com":                      http.StatusNotFound,
		"/v2/team/app/blobs/sha256:00?ns=registry.example.com":                     http.StatusNotFound,
		"/v2/team/app/blobs/sha256:..%2f..%2foptions.json?ns=registry.example.com": http.StatusBadRequest,
		"/v2/team/app/manifests/sha256:..%2fx?ns=registry.example.com":             http.StatusBadRequest,
		"/v2/team/app/tags/list": http.StatusNotFound,
		"/":                      http.StatusNotFound,
	} {
		if answer, body := get(t, s, http.MethodGet, path); answer.StatusCode != want {
			t.Errorf("%s: %s %s, want %d", path, answer.Status, body, want)
		}
	}
	if answer, _ := get(t, s, http.MethodPost, "/v2/team/app/blobs/uploads/"); answer.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("a push: %s", answer.Status)
	}
	if _, err := registry.New(t.TempDir(), []registry.Image{{Name: "a/b", Files: map[string]string{"/x": "missing"}}}); err == nil {
		t.Error("an image of a file that is not there was made")
	}
}
