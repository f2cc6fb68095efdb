package chart_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// stage is one FROM of the Dockerfile with its instructions.
type stage struct {
	from  string
	steps []string
}

// dockerfile reads the stages. It knows what ours needs: comments, and lines that go on after a backslash.
func dockerfile(t *testing.T) []stage {
	t.Helper()
	content, err := os.ReadFile(path(t, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	var stages []stage
	text := strings.ReplaceAll(string(content), "\\\n", " ")
	for line := range strings.Lines(text) {
		line = strings.Join(strings.Fields(line), " ")
		switch from, isFrom := strings.CutPrefix(line, "FROM "); {
		case line == "" || line[0] == '#':
		case isFrom:
			stages = append(stages, stage{from: from})
		case len(stages) == 0:
			t.Fatalf("Dockerfile: %q before FROM", line)
		default:
			last := &stages[len(stages)-1]
			last.steps = append(last.steps, line)
		}
	}
	return stages
}

// TestDockerfile ties the image to the chart, as no image can be built where these tests run.
func TestDockerfile(t *testing.T) {
	t.Parallel()
	stages := dockerfile(t)
	if len(stages) != 2 || stages[1].from != "scratch" {
		t.Fatalf("stages %v, want a build and one from scratch", stages)
	}
	pod := podOf(t, template(t, standard()))
	var ports []string
	for _, p := range pod.Containers[0].Ports {
		ports = append(ports, itoa(p.ContainerPort))
	}
	for _, want := range []string{
		fmt.Sprintf("USER %d:%d", *pod.SecurityContext.RunAsUser, *pod.SecurityContext.RunAsGroup),
		"EXPOSE " + strings.Join(ports, " "),
		`ENTRYPOINT ["/podlane"]`,
		fmt.Sprintf("CMD [%q]", pod.Containers[0].Args[0]),
		"COPY --from=build /podlane /podlane",
	} {
		if !slices.Contains(stages[1].steps, want) {
			t.Errorf("the image lacks %q: %q", want, stages[1].steps)
		}
	}
	build := strings.Join(stages[0].steps, "\n")
	for _, want := range []string{"CGO_ENABLED=0", "-trimpath", "-o /podlane ./cmd/podlane"} {
		if !strings.Contains(build, want) {
			t.Errorf("the build lacks %q:\n%s", want, build)
		}
	}
}

// TestDockerfileCopiesEverything: a top-level folder with Go code that the binary may import must be in the image's build
// and in its context.
func TestDockerfileCopiesEverything(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir(path(t, "."))
	if err != nil {
		t.Fatal(err)
	}
	ignored, err := os.ReadFile(path(t, ".dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	build := dockerfile(t)[0].steps
	for _, e := range entries {
		name := e.Name()
		if !e.IsDir() || name[0] == '.' || slices.Contains([]string{"bin", "chart", "dist", "test"}, name) {
			continue
		}
		if step := fmt.Sprintf("COPY %[1]s/ %[1]s/", name); !slices.Contains(build, step) {
			t.Errorf("the Dockerfile lacks %q", step)
		}
		if line := "!" + name + "/\n"; !strings.Contains(string(ignored), line) {
			t.Errorf(".dockerignore leaves %s out of the context", name)
		}
	}
}

// TestDockerfileGo: the image is built with a Go that go.mod accepts.
func TestDockerfileGo(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(path(t, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(content), "\ngo ")
	version, _, _ := strings.Cut(rest, "\n")
	minor := version[:strings.LastIndex(version, ".")]
	if from := dockerfile(t)[0].from; !strings.Contains(from, "golang:"+minor+".") {
		t.Errorf("go.mod wants go %s, the image is built from %q", version, from)
	}
}
