package e2e_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podlane.dev/podlane/test/cluster"
)

// matches compares what want has set; Field and Message are parts.
func (p *problem) matches(want problem) bool {
	same := func(have, want string) bool { return want == "" || have == want }
	return same(p.Kind, want.Kind) && same(p.Namespace, want.Namespace) && same(p.Name, want.Name) && same(p.Reason, want.Reason) &&
		same(p.Effect, want.Effect) && strings.Contains(p.Field, want.Field) && strings.Contains(p.Message, want.Message)
}

// waitProblem waits for an entry of /debug/problems.
func waitProblem(t *testing.T, l *lane, want problem) problem {
	t.Helper()
	var found problem
	cluster.Until(t, fmt.Sprintf("problem %+v", want), func(ctx context.Context) error {
		all, err := l.problems(ctx)
		if err != nil {
			return err
		}
		var near []problem
		for _, p := range all {
			if p.matches(want) {
				found = p
				return nil
			}
			if p.Namespace == want.Namespace && p.Name == want.Name {
				near = append(near, p)
			}
		}
		return fmt.Errorf("the object has %+v", near)
	})
	return found
}

// waitNoProblem waits until an object has no entry of that reason.
func waitNoProblem(t *testing.T, l *lane, want problem) {
	t.Helper()
	cluster.Until(t, fmt.Sprintf("end of problem %+v", want), func(ctx context.Context) error {
		all, err := l.problems(ctx)
		for _, p := range all {
			if err == nil && p.matches(want) {
				err = fmt.Errorf("there is %+v", p)
			}
		}
		return err
	})
}

// waitEvent waits for the Event that says the same as a problem, as kubectl describe shows it.
func waitEvent(t *testing.T, c *cluster.Cluster, p problem) {
	t.Helper()
	cluster.Until(t, fmt.Sprintf("event %+v", p), func(ctx context.Context) error {
		list, err := c.Client.CoreV1().Events(p.Namespace).List(ctx, metav1.ListOptions{
			FieldSelector: "involvedObject.kind=" + p.Kind + ",involvedObject.name=" + p.Name,
		})
		if err != nil {
			return err
		}
		for _, e := range list.Items {
			if e.Reason == p.Reason && strings.Contains(e.Message, p.Field) && e.InvolvedObject.UID != "" {
				return nil
			}
		}
		return fmt.Errorf("the object has %d Events: %v", len(list.Items), reasons(list.Items, func(i int) string {
			return list.Items[i].Reason + " " + list.Items[i].Message
		}))
	})
}

func reasons[T any](items []T, text func(int) string) []string {
	var out []string
	for i := range items {
		out = append(out, text(i))
	}
	return out
}
