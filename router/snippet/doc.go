// Package snippet reads the snippets of nginx configuration that people have in annotations of ingress-nginx, and says which annotations do the same.
// Nothing of a snippet is ever run: this is for people who move, in podlane lint and podlane migrate.
package snippet
