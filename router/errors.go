package router

import (
	"fmt"
	"slices"
	"strings"
)

// CustomErrorsFamily is the name of the policy family whose value is CustomErrors.
const CustomErrorsFamily = "custom-errors"

// CustomErrors says which answers another Service gives in place of a Route's own. It is immutable.
type CustomErrors struct {
	// Statuses are those of answers that are replaced, sorted.
	Statuses []int
	// Service is the name of a Service in the Ingress's namespace, which also takes the requests that the Route's own has no endpoint for; "" is
	// the operator's default backend, which does not.
	Service string
	// KeepPods leaves the answers of Pods alone: those are replaced that the proxy gives because of Pods.
	KeepPods bool
}

// Replaces reports whether answers of a status are replaced.
func (e *CustomErrors) Replaces(status int) bool {
	_, found := slices.BinarySearch(e.Statuses, status)
	return found
}

// String returns e for the text of a Table.
func (e CustomErrors) String() string {
	text := strings.Trim(fmt.Sprint(e.Statuses), "[]")
	if text == "" {
		text = "none"
	}
	if e.Service != "" {
		text += ", by Service " + e.Service
	}
	if e.KeepPods {
		text += ", not those of Pods"
	}
	return text
}
