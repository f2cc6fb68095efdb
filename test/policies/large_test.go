package policies_test

import (
	"runtime"
	"strings"
	"testing"

	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/router/policy"
)

// TestLargeValues fills one key after the other with as much as the API server lets an annotation hold: whoever may write an Ingress must not be able to make
// the controller take hundreds of times of that, or say so at length.
func TestLargeValues(t *testing.T) {
	const most = 250 << 20 // bytes allocated in all, kept or not: four Builds, with what they read it with
	for _, value := range []string{strings.Repeat("x ", 128<<10-50), strings.Repeat("a,", 128<<10-50), strings.Repeat("a:", 128<<10-50)} {
		for _, k := range keysOf() {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			s := written(value, []policy.Key{k}, ingress.CompatNginx)
			checkWritten(t, s)
			runtime.ReadMemStats(&after)
			if took := after.TotalAlloc - before.TotalAlloc; took > most {
				t.Errorf("%s: %d MiB are allocated for a value of %d KiB", k.Name, took>>20, len(value)>>10)
			}
		}
	}
}
