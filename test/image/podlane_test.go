package image_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"podlane.dev/podlane/test/cluster/assets"
	"podlane.dev/podlane/test/image"
)

// A part is a component of a bill of materials.
type part struct {
	Type, PURL, Name, Version string
	Hashes                    []struct{ Alg, Content string }
}

// materials is a bill of materials, as far as it matters.
type materials struct {
	BOMFormat, SpecVersion string
	Metadata               struct {
		Component struct {
			PURL   string
			Hashes []struct{ Alg, Content string }
		}
	}
	Components   []part
	Dependencies []struct {
		Ref       string
		DependsOn []string
	}
}

// TestPodlane builds Podlane's own image, for this machine, runs what is in it, and holds its bill of materials to what the go command
// says is linked, and go.sum about it.
func TestPodlane(t *testing.T) {
	t.Parallel()
	root, err := assets.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	here := image.Platform{OS: "linux", Architecture: runtime.GOARCH}
	i := build(t, image.Options{
		Root: root, Package: "./cmd/podlane", Version: "v1.2.3", Platforms: []image.Platform{here}, Created: time.Unix(1e9, 0), Progress: os.Stderr,
	})
	l := read(t, i)
	files := l.unpack(l.images(i.Digest())[0])
	if out := execute(t, files["podlane"], "version"); !strings.Contains(out, "v1.2.3") {
		t.Errorf("podlane version says %q", out)
	}
	got := decode[materials](t, i.BillOfMaterials(here))
	if got.BOMFormat != "CycloneDX" || got.SpecVersion != "1.6" || got.Metadata.Component.PURL != "pkg:golang/podlane.dev/podlane@v1.2.3" {
		t.Errorf("the bill is %s %s of %s", got.BOMFormat, got.SpecVersion, got.Metadata.Component.PURL)
	}
	modules := map[string]string{}
	for _, c := range got.Components {
		sum := ""
		if len(c.Hashes) > 0 {
			sum = c.Hashes[0].Content
		}
		if c.Type == "library" && c.Name != "stdlib" {
			modules[c.PURL] = sum
		} else if c.Name == "stdlib" && "go"+c.Version != runtime.Version() {
			t.Errorf("the standard library is %s, want %s", c.Version, runtime.Version())
		}
	}
	if diff := cmp.Diff(linked(t, root), modules); diff != "" {
		t.Errorf("modules that are linked (-), and in the bill (+): %s", diff)
	}
	if len(got.Dependencies) != 1 || len(got.Dependencies[0].DependsOn) != len(modules)+1 || got.Dependencies[0].Ref != got.Metadata.Component.PURL {
		t.Errorf("dependencies: %v", got.Dependencies)
	}
	if !slices.ContainsFunc(got.Components, func(c part) bool {
		return c.Name == "etc/ssl/certs/ca-certificates.crt"
	}) {
		t.Error("the bill lacks the certificate authorities")
	}
}

// TestDockerfile: the Dockerfile makes the same image, from the same compiler flags.
func TestDockerfile(t *testing.T) {
	t.Parallel()
	root, err := assets.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(root + "/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(strings.ReplaceAll(string(content), "\\\n", " ")), " ")
	i := build(t, hello(t))
	l := read(t, i)
	c := l.config(l.images(i.Digest())[0])
	var ports []string
	for _, p := range slices.Sorted(maps.Keys(c.Config.ExposedPorts)) {
		ports = append(ports, strings.TrimSuffix(p, "/tcp"))
	}
	want := []string{
		"CGO_ENABLED=0 GOOS=", `go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=`, "USER " + c.Config.User,
		"EXPOSE " + strings.Join(ports, " "), `ENTRYPOINT ["` + c.Config.Entrypoint[0] + `"]`, `CMD ["` + c.Config.Cmd[0] + `"]`,
		"/etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/",
	}
	for label, value := range c.Config.Labels {
		if !strings.HasSuffix(label, ".version") && !strings.HasSuffix(label, ".created") {
			want = append(want, label+`="`+value+`"`)
		}
	}
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("the Dockerfile lacks %s", w)
		}
	}
}

// linked are the modules of the packages that the program needs, with the sums of go.sum as the bill has them.
func linked(t *testing.T, root string) map[string]string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=Module", "./cmd/podlane")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile(root + "/go.sum")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			Module *struct {
				Path, Version string
				Main          bool
			}
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return found
		} else if err != nil {
			t.Fatal(err)
		}
		if p.Module == nil || p.Module.Main {
			continue
		}
		m := p.Module
		_, sum, _ := strings.Cut(string(sums), m.Path+" "+m.Version+" h1:")
		sum, _, _ = strings.Cut(sum, "\n")
		raw, err := base64.StdEncoding.DecodeString(sum)
		if err != nil || len(raw) != 32 {
			t.Fatalf("go.sum has %q for %s %s: %v", sum, m.Path, m.Version, err)
		}
		found["pkg:golang/"+m.Path+"@"+strings.ReplaceAll(m.Version, "+", "%2B")] = hex.EncodeToString(raw)
	}
}
