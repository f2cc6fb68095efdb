// Package policies tests annotations and settings from the manifest to the bytes: testdata/*.txtar holds objects, what Build makes of them, and
// requests over real sockets with what the client and the Pod got.
//
// The sections of a file, of which only in.yaml must be there:
//
//	in.yaml       objects. Services that Ingresses name and that are not there are made, with the port that is asked for and one Pod. The annotation
//	              test/pods of a Service says how many Pods it has. Its Pods answer to NAME.NAMESPACE.svc too, for who asks them about a request:
//	              with the annotation test/aside: Auth they look at Auth-Status and so on in place of Pod-Status, and what they get is shown.
//	options.yaml  is laid over the options of Build
//	table.txt     the table, problems.txt the Problems: `go test ./test/policies -update` writes them
//	> NAME        a request: the request line, fields, an empty line, the body. Lines that begin with # are not sent. The engine trusts its peer, so
//	              X-Forwarded-For and X-Forwarded-Proto say who the client is. The Pod answers 200 and what it got, unless the request has
//	              Pod-Status, Pod-Header (Name: value, repeated) or Pod-Body.
//	< NAME        the answer to it, written by -update: status, fields sorted, body
//
// Requests run in the order of the file, over one connection to the engine each.
package policies
