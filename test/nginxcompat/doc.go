// Package nginxcompat compares Podlane's answers with those of nginx itself, header by header: a family of annotations on one side, on the other
// the directives that ingress-nginx would write for them. Where the two differ for a reason that was looked at, the comparison says so.
//
// It holds tests alone, and skips them where nginx is not installed.
package nginxcompat
