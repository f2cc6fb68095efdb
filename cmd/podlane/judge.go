package main

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/resourceversion"

	"podlane.dev/podlane/router/ingress"
)

// verdict is what one replica's answer means for one target. Each says why; the zero verdict is that all is done.
type verdict struct {
	// pending is what is on its way.
	pending string
	// doubtful may be on its way, or a mistake: the user is told if it stays.
	doubtful string
	// refused is what no waiting mends.
	refused string
}

// judge says whether a replica serves the target in the version of the start, or a newer one.
func (t *target) judge(o *appliedObjectJSON) verdict {
	switch {
	case !o.Watched:
		return verdict{refused: fmt.Sprintf("it does not watch the namespace %s (--watch-namespace)", t.name.Namespace)}
	case !o.Used && t.implied:
		// The Ingress that names it was asked for before it: where the table has that, it needs no more.
		return verdict{}
	case t.kind == "Ingress" && atLeast(o.Live, t.version) && !o.Used:
		return verdict{refused: fmt.Sprintf("%s is not Podlane's: %s; see kubectl get ingressclass", t, t.class)}
	case t.kind != "Ingress" && !o.Used:
		return verdict{doubtful: fmt.Sprintf("no Ingress that it serves names %s", t)}
	case !atLeast(o.Live, t.version):
		return verdict{pending: fmt.Sprintf("%s is live in version %s, waiting for %s", t, o.Live, t.version)}
	}
	for name, version := range t.slices {
		if have := o.EndpointSlices[name]; !atLeast(&versionJSON{ResourceVersion: have}, version) {
			return verdict{pending: fmt.Sprintf("the endpoints of %s are not those of EndpointSlice %s in version %s yet", t, name, version)}
		}
	}
	return judgeProblems(t, o.Problems)
}

// judgeProblems says whether a target that is live is so in all its parts.
func judgeProblems(t *target, problems []problemJSON) verdict {
	var v verdict
	for _, p := range problems {
		if p.Effect == string(ingress.Notice) || p.Effect == string(ingress.Ignored) {
			continue
		}
		text := fmt.Sprintf("%s is refused: %s: %s (%s)", t, p.Field, p.Message, p.Reason)
		// What is missing may have been made after the Ingress, and be on its way.
		if strings.HasSuffix(p.Reason, "Missing") {
			v.doubtful = text
		} else {
			v.refused = text
		}
	}
	return v
}

// judgeGone says whether a replica serves the target in no version any more.
func (t *target) judgeGone(o *appliedObjectJSON) verdict {
	switch {
	case o.Live != nil:
		return verdict{pending: fmt.Sprintf("%s is still live in version %s", t, o.Live)}
	case o.Seen != nil:
		return verdict{pending: fmt.Sprintf("%s has not been seen to be gone", t)}
	}
	return verdict{}
}

// atLeast says whether v is a version, or a newer one; versions that cannot be compared must be equal.
func atLeast(v *versionJSON, version string) bool {
	if v == nil {
		return false
	}
	order, err := resourceversion.CompareResourceVersion(v.ResourceVersion, version)
	return err == nil && order >= 0 || v.ResourceVersion == version
}
