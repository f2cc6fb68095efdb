package cluster

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// Kubectl runs kubectl as the administrator with an input, and returns what it prints.
func (c *Cluster) Kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.programs.Kubectl, append([]string{"--kubeconfig=" + c.kubeconfig, "--cache-dir=" + c.path("kubectl")}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	return output(cmd)
}

// Curl runs curl with the arguments, quietly but for errors, in the tests' network and returns the answer. It ends the test
// when curl fails, which it does for an HTTP status only with --fail.
func Curl(t testing.TB, args ...string) string {
	t.Helper()
	out, err := TryCurl(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TryCurl is Curl for where a failure is expected or repeated; the error is an *exec.ExitError with curl's status.
func TryCurl(ctx context.Context, args ...string) (string, error) {
	return output(exec.CommandContext(ctx, "curl", append([]string{"--silent", "--show-error", "--noproxy", "*", "--max-time", "30"}, args...)...))
}

// WaitOK waits until a GET of the URL, such as a /readyz, answers 200.
func WaitOK(t testing.TB, url string) {
	t.Helper()
	Until(t, url, func(ctx context.Context) error {
		_, err := TryCurl(ctx, "--fail", "--insecure", "--output", "/dev/null", url)
		return err
	})
}

func output(cmd *exec.Cmd) (string, error) {
	var out, problems strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(problems.String()))
	}
	return out.String(), nil
}
