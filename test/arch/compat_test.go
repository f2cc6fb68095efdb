package arch

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router/policy"
)

// standing is what becomes of one name of ingress-nginx's.
type standing struct {
	name string
	key  *policy.Key
	// refusal is set where the name is refused.
	refusal *policy.Refusal
}

// standings returns what becomes of names; find returns the key that a name is, or nil.
func standings(names []string, find func(*policy.Key, string) bool) []standing {
	list := make([]standing, len(names))
	for i, name := range names {
		list[i] = standing{name: name}
		for _, f := range filters.Families(config.Policies()) {
			keys := f.FamilyKeys()
			for k := range keys {
				if find(&keys[k], name) {
					list[i].key = &keys[k]
					list[i].refusal = refusalOf(f, name)
				}
			}
		}
	}
	return list
}

func refusalOf(f policy.Family, name string) *policy.Refusal {
	refused, ok := f.(interface{ Refusals() []policy.Refusal })
	if !ok {
		return nil
	}
	list := refused.Refusals()
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	return nil
}

// namesIn reads a list of names, one a line, sorted and each once; lines that begin with # are comments.
func namesIn(t *testing.T, file string, size int) (names []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			names = append(names, line)
		}
	}
	if len(names) != size || !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != size {
		t.Fatalf("%s: %d names, want %d, sorted and each once", file, len(names), size)
	}
	return names
}

// TestCompatibilityReference keeps COMPATIBILITY.md equal to what the families say of themselves. Every annotation and ConfigMap key of ingress-nginx's
// belongs to one, if only to the one that says why it has no effect: nothing that moves here is met with "Podlane does not know".
func TestCompatibilityReference(t *testing.T) {
	t.Parallel()
	const name = "../../COMPATIBILITY.md"
	annotations := standings(namesIn(t, "testdata/ingress-nginx-annotations.txt", 138), func(k *policy.Key, name string) bool {
		return k.InAnnotations() && (k.Name == name || k.Alias == name)
	})
	settings := standings(namesIn(t, "testdata/ingress-nginx-settings.txt", 192), func(k *policy.Key, name string) bool {
		return k.InConfigMap() && k.SettingName() == name
	})
	for _, s := range slices.Concat(annotations, settings) {
		if s.key == nil {
			t.Errorf("no family knows %s", s.name)
		}
	}
	if t.Failed() {
		return
	}
	want := compatibility(annotations, settings)
	if *update {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("COMPATIBILITY.md is old: run go test ./test/arch -run TestCompatibilityReference -update")
	}
}

func compatibility(annotations, settings []standing) string {
	var b strings.Builder
	b.WriteString(`# Compatibility with ingress-nginx

<!-- Generated from proxy/filters: go test ./test/arch -run TestCompatibilityReference -update -->

What becomes of the annotations and the keys of the ConfigMap of ingress-nginx v1.15.1, its last release. [ANNOTATIONS.md](ANNOTATIONS.md) says what each
does, [MOVING.md](MOVING.md) how to move. ` + "`podlane migrate`" + ` says it for your own objects.

| | exactly | with a named difference | refused | of |
|---|---|---|---|---|
`)
	count(&b, "annotations", annotations)
	count(&b, "settings", settings)
	for _, part := range []struct {
		title string
		list  []standing
	}{{"Annotations", annotations}, {"Settings", settings}} {
		section(&b, part.title+" with a difference", "| name | what is otherwise |\n|---|---|\n", part.list, func(s standing) string {
			if s.refusal != nil {
				return ""
			}
			return s.key.Difference()
		})
		section(&b, part.title+" that are refused", "| name | why, and what to do instead |\n|---|---|\n", part.list, func(s standing) string {
			if s.refusal == nil {
				return ""
			}
			return strings.TrimSuffix(s.refusal.Why+"; "+s.refusal.Instead, "; ")
		})
	}
	return b.String()
}

// count writes a line of the table of totals.
func count(b *strings.Builder, what string, list []standing) {
	var exact, differ, refused int
	for _, s := range list {
		switch {
		case s.refusal != nil:
			refused++
		case s.key.Difference() != "":
			differ++
		default:
			exact++
		}
	}
	fmt.Fprintf(b, "| %s | %d | %d | %d | %d |\n", what, exact, differ, refused, len(list))
}

// section writes those of list for which say has something to say.
func section(b *strings.Builder, title, head string, list []standing, say func(standing) string) {
	if !slices.ContainsFunc(list, func(s standing) bool { return say(s) != "" }) {
		return
	}
	fmt.Fprintf(b, "\n## %s\n\n%s", title, head)
	for _, s := range list {
		if text := say(s); text != "" {
			fmt.Fprintf(b, "| `%s` | %s |\n", s.name, strings.ReplaceAll(text, "|", "\\|"))
		}
	}
}
