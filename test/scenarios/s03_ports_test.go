package scenarios

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
)

// S3: the right Pod port each time; renumbering one container's port changes neither the Service nor the Ingress.
func TestS03NamedPorts(t *testing.T) {
	p := newPlace(t, world.lane)
	p.apply("s03-named-ports.yaml")
	expect := func(two int) {
		t.Helper()
		for path, want := range map[string]map[string]bool{
			"name": {"8001": true, fmt.Sprint(two): true}, "number": {"8001": true, fmt.Sprint(two): true},
			"https/name": {"9001": true, fmt.Sprint(two + 1000): true}, "https/number": {"9001": true, fmt.Sprint(two + 1000): true},
		} {
			until(t, fmt.Sprintf("ports %v on %s", want, path), func(ctx context.Context) error {
				seen := map[string]bool{}
				for range 16 {
					a, err := p.lane.tryCurl(ctx, "http://named.goweb.com/echo/"+path)
					if err != nil || a.Status != 200 {
						return fmt.Errorf("%v %w", a, err)
					}
					local := a.echo(t).Local
					seen[local[strings.LastIndexByte(local, ':')+1:]] = true
				}
				if !maps.Equal(seen, want) {
					return fmt.Errorf("seen are %v", seen)
				}
				return nil
			})
		}
	}
	expect(8002)
	generation := p.kubectl("get", "ingress,service", "-o", "jsonpath={.items[*].metadata.generation}")
	p.kubectl("delete", "pod", "two")
	_, rest, _ := strings.Cut(p.manifest("s03-named-ports.yaml"), "---\n")
	two, _, _ := strings.Cut(rest, "---\n")
	p.applyText(strings.NewReplacer("8002", "8003", "9002", "9003").Replace(two))
	expect(8003)
	if after := p.kubectl("get", "ingress,service", "-o", "jsonpath={.items[*].metadata.generation}"); after != generation {
		t.Errorf("generations were %s and are %s", generation, after)
	}
}
