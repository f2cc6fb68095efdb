package ingress

import (
	"fmt"

	"podlane.dev/podlane/router"
)

// Object names the Kubernetes object that a Problem is about. It is comparable.
type Object struct{ Kind, Namespace, Name, UID string }

// String returns Kind namespace/name.
func (o Object) String() string {
	if o.Namespace == "" {
		return o.Kind + " " + o.Name
	}
	return o.Kind + " " + o.Namespace + "/" + o.Name
}

// Effect says what a Problem does to traffic.
type Effect string

// The effects of Problems.
const (
	// Notice: nothing is lost, but the user should know.
	Notice Effect = "Notice"
	// Kept: the object is broken, and is served in the form that it had before.
	Kept Effect = "Kept"
	// Ignored: the field has no effect, the route works.
	Ignored Effect = "Ignored"
	// RouteDenied: requests to the route get 503.
	RouteDenied Effect = "RouteDenied"
	// RouteDropped: the route does not exist.
	RouteDropped Effect = "RouteDropped"
)

// Reason is the kind of mistake, from the closed set below: it is an Event's reason and a metric's label.
type Reason string

// Problem is a user's mistake as data. It is comparable, so sets of Problems can be compared. The controllers turn it into an
// Event on the object, a metric and a line of /debug/problems; the file source adds file and line.
type Problem struct {
	Object Object
	// Field is the annotation or the field's path, as kubectl explain writes it: spec.rules[0].http.paths[2].path.
	Field  string
	Reason Reason
	Effect Effect
	// Message says what is wrong and what to change. It never holds a Secret's data.
	Message string
	// Route is what the route would have been that another one has taken the place of, for PathConflict and DefaultBackendConflict.
	Route router.RouteID
	// Source is file:line where the object came from a file, else "".
	Source string
}

// String returns one line: object, field, reason, effect and message.
func (p Problem) String() string {
	about := p.Object.String()
	if p.Field != "" {
		about += " " + p.Field
	}
	s := fmt.Sprintf("%s: %s (%s): %s", about, p.Reason, p.Effect, p.Message)
	if p.Source != "" {
		return p.Source + ": " + s
	}
	return s
}
