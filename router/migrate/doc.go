// Package migrate says, for the objects of users of ingress-nginx, what Podlane does alike, what it does otherwise, and what it refuses. It asks the
// same Build as the controller, so its word is the controller's; it decides nothing by itself.
package migrate
