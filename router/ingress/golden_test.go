package ingress_test

import (
	"bytes"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"

	"podlane.dev/podlane/router/ingress"
)

var update = flag.Bool("update", false, "write what came out into the golden files")

// TestGolden runs testdata/*.txtar: objects in, the canonical text of the table and the Problems out, whatever the order
// of the objects. options.yaml, where it is there, is laid over testOptions.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive := txtar.Parse(readFile(t, file))
			s := parseYAML(t, section(archive, "in.yaml"))
			s.Options = testOptions()
			if at := section(archive, "taken.txt"); len(at) > 0 {
				if err := s.Taken.UnmarshalText(bytes.TrimSpace(at)); err != nil {
					t.Fatal(err)
				}
			}
			if err := yaml.UnmarshalStrict(section(archive, "options.yaml"), &s.Options); err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			table, problems := ingress.Build(s, testFamilies())
			got["table.txt"], got["problems.txt"] = table.String(), problemText(problems)
			if *update {
				writeGolden(t, file, archive, got)
			}
			for name, text := range got {
				if want := string(section(archive, name)); text != want {
					t.Errorf("%s:\n%swant\n%s", name, text, want)
				}
			}
			builder := ingress.NewBuilder(testFamilies())
			for seed := range uint64(5) {
				shuffle(&s, rand.New(rand.NewPCG(seed, 1)))
				table, problems := ingress.Build(s, testFamilies())
				if table.String() != got["table.txt"] || problemText(problems) != got["problems.txt"] {
					t.Fatalf("another order gives\n%s\n%s", table, problemText(problems))
				}
				again, _ := builder.Build(s)
				if next, _ := builder.Build(s); next != again {
					t.Fatal("nothing changed, but the table did")
				}
			}
		})
	}
}

// problemText is one line for each Problem.
func problemText(problems []ingress.Problem) string {
	var b strings.Builder
	for _, p := range problems {
		b.WriteString(p.String())
		b.WriteByte('\n')
	}
	return b.String()
}

func section(a *txtar.Archive, name string) []byte {
	for _, f := range a.Files {
		if f.Name == name {
			return f.Data
		}
	}
	return nil
}

func writeGolden(t *testing.T, file string, a *txtar.Archive, got map[string]string) {
	t.Helper()
	for _, name := range []string{"table.txt", "problems.txt"} {
		if section(a, name) == nil && got[name] != "" {
			a.Files = append(a.Files, txtar.File{Name: name})
		}
		for i := range a.Files {
			if a.Files[i].Name == name {
				a.Files[i].Data = []byte(got[name])
			}
		}
	}
	text := txtar.Format(a)
	if bytes.Count(text, []byte("\n")) > 60 {
		t.Errorf("%s is too long to read", file)
	}
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// shuffle puts every slice of s into another order, without touching the objects.
func shuffle(s *ingress.Snapshot, r *rand.Rand) {
	r.Shuffle(len(s.Ingresses), func(i, j int) { s.Ingresses[i], s.Ingresses[j] = s.Ingresses[j], s.Ingresses[i] })
	r.Shuffle(len(s.Classes), func(i, j int) { s.Classes[i], s.Classes[j] = s.Classes[j], s.Classes[i] })
	r.Shuffle(len(s.Services), func(i, j int) { s.Services[i], s.Services[j] = s.Services[j], s.Services[i] })
	r.Shuffle(len(s.Secrets), func(i, j int) { s.Secrets[i], s.Secrets[j] = s.Secrets[j], s.Secrets[i] })
	r.Shuffle(len(s.ConfigMaps), func(i, j int) { s.ConfigMaps[i], s.ConfigMaps[j] = s.ConfigMaps[j], s.ConfigMaps[i] })
}
