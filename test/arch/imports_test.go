package arch

import (
	"maps"
	"slices"
	"strings"
)

// A layer is one row of the table of folders in ARCHITECTURE.md.
type layer struct {
	// folder is the package of this path and, unless they have rows of their own, those below it.
	folder string
	// own are the folders of ours that it may import, and with them what those may import; "*" means all.
	own []string
	// modules are the modules of others that it may import, beside the standard library.
	modules []string
	why     string
}

// The modules of others, by what they are for.
var (
	objects    = []string{"k8s.io/api", "k8s.io/apimachinery"}
	kubernetes = []string{"k8s.io/api", "k8s.io/apimachinery", "k8s.io/client-go", "k8s.io/streaming", "sigs.k8s.io/controller-runtime", "github.com/go-logr/logr"}
	logs       = []string{"github.com/go-logr/zapr", "go.uber.org/zap", "k8s.io/klog/v2"}
	flags      = []string{"github.com/spf13/pflag"}
	commands   = []string{"github.com/spf13/cobra"}
	files      = []string{"github.com/fsnotify/fsnotify"}
	manifests  = []string{"sigs.k8s.io/yaml", "sigs.k8s.io/json", "go.yaml.in/yaml/v3"}
	prometheus = []string{"github.com/prometheus/client_golang", "github.com/prometheus/client_model", "github.com/prometheus/common"}
	codings    = []string{"github.com/andybalholm/brotli", "github.com/klauspost/compress"}
	hosts      = []string{"golang.org/x/net/idna"}
	sys        = []string{"golang.org/x/sys"}
	protobuf   = []string{"google.golang.org/protobuf/encoding/protowire"}
	hashes     = []string{"github.com/tg123/go-htpasswd"}
)

// layers is the table. A package may import what its row lists, and nothing else: what is not here is forbidden.
var layers = []layer{
	{
		"cmd/podlane", []string{"*"}, slices.Concat(kubernetes, logs, flags, commands, files, prometheus, hosts, sys),
		"here, and only here, flags become objects and the parts meet",
	},
	{"cmd/podlane/dashboard", []string{"proxy/observe"}, nil, "it shows rows, and knows nothing of what they are"},
	{"cmd/podlane/replicas", nil, kubernetes, "it finds Pods and forwards their ports, and knows nothing of what they serve"},
	{
		"config", []string{"router/ingress", "router/manifest", "router/endpoints", "proxy", "tls/certs", "tls/server"}, slices.Concat(flags, objects),
		"options are values of the packages that use them; nothing is started here",
	},
	{
		"controllers", []string{"router", "router/ingress", "router/endpoints"}, kubernetes,
		"they know the cluster and no proxy: cmd/podlane hands them plain functions",
	},
	{
		"router", []string{"router/policy"}, nil,
		"the Table is a value that anything may use, tests and tools too: standard library only",
	},
	{"router/policy", nil, nil, "what an annotation is depends on nothing"},
	{"router/ingress", []string{"router"}, objects, "the only reader of Ingress objects, and pure: it needs types, and no clients"},
	{"router/migrate", []string{"router", "router/ingress", "router/snippet"}, objects, "it asks Build, and decides nothing by itself"},
	{"router/snippet", nil, nil, "it reads text for people who move, and nothing of it is run"},
	{"router/endpoints", []string{"router"}, objects, "slices become addresses by a pure function, in a cluster and without one"},
	{
		"router/manifest", []string{"router", "router/ingress", "router/endpoints"}, slices.Concat(objects, manifests),
		"files become what the API server would have made of them, and know nothing of what is done with it",
	},
	{"proxy/exchange", []string{"router"}, nil, "the message model is below both codecs, filters and the upstream side"},
	{"proxy/bodies", []string{"proxy/exchange"}, slices.Concat(codings, sys), "bodies wrap bodies, whatever the codec and the policy"},
	{"proxy/socket", nil, sys, "it knows bytes, and no protocol but TLS as something to carry"},
	{"proxy/preamble", nil, nil, "what comes before HTTP is parsed from bytes alone: no sockets, no clock"},
	{"proxy/http1", []string{"proxy/exchange", "proxy/socket"}, sys, "a codec knows messages, and neither routes nor pools"},
	{"proxy/http2", []string{"proxy/exchange", "proxy/socket"}, append([]string{"golang.org/x/net/http2"}, sys...), "a codec knows messages, and neither routes nor pools"},
	{"proxy/upstream", []string{"proxy/exchange", "proxy/socket", "proxy/upstream/dns"}, sys, "pools outlive tables and know no filters"},
	{"proxy/upstream/dns", nil, []string{"golang.org/x/net/dns/dnsmessage"}, "it asks for names and their lifetimes, and knows no pools"},
	{"proxy/expr", []string{"proxy/exchange"}, nil, "an expression reads an Exchange, whoever asks, and steers nothing"},
	{"proxy/limit", nil, nil, "it counts what keys ask for, and knows neither requests nor routes"},
	{"proxy/subrequest", []string{"proxy/exchange"}, nil, "it asks on behalf of whoever hands it a request, and decides nothing"},
	{"proxy/tracing", []string{"proxy/exchange"}, protobuf, "it notes what happened to a request and tells a collector, and steers nothing"},
	{"proxy/passwords", nil, hashes, "it checks names and passwords, and knows neither requests nor what becomes of a stranger"},
	{"proxy/filters", []string{"proxy/exchange", "proxy/expr", "proxy/limit", "proxy/bodies", "proxy/passwords", "proxy/subrequest", "proxy/tracing"}, nil, "a policy is one file that works on messages, whatever the codec"},
	{"proxy/observe", []string{"router", "proxy/exchange", "proxy/expr"}, slices.Concat(prometheus, sys), "it records what happened, and steers nothing"},
	{
		"proxy", []string{"proxy/exchange", "proxy/expr", "proxy/limit", "proxy/subrequest", "proxy/http1", "proxy/http2", "proxy/preamble", "proxy/socket", "proxy/upstream", "proxy/filters", "proxy/observe", "proxy/tracing"}, sys,
		"the engine puts the parts together; it builds, tests and fuzzes without Kubernetes",
	},
	{"tls/certs", []string{"router"}, nil, "certificates come in a Table, and go out in handshakes"},
	{"tls/server", []string{"router", "tls/certs"}, nil, "TLS policy needs certificates, and no proxy"},
}

// layerOf returns the row of a folder: the longest that is it or above it.
func layerOf(dir string) (layer, bool) {
	var best layer
	for _, l := range layers {
		if within(dir, l.folder) && len(l.folder) > len(best.folder) {
			best = l
		}
	}
	return best, best.folder != ""
}

// reach adds to seen every folder of ours that a row may import: what it lists, and what that may import.
func reach(l layer, seen map[string]bool) map[string]bool {
	for _, next := range layers {
		listed := slices.Contains(l.own, next.folder) || slices.Contains(l.own, "*")
		if listed && !seen[next.folder] {
			seen[next.folder] = true
			reach(next, seen)
		}
	}
	return seen
}

var importRules = []rule{
	{"layers", "dependencies point one way, so that the core is built, tested and fuzzed without what stands on it", checkLayers},
	{"production-imports-no-test-code", "what only tests need must neither be linked into the binary nor decide how it behaves", checkTestImports},
	{"standard-imports", "some packages of the standard library do, in some folders, what that folder must not do", checkStandard},
}

func checkLayers(t *tree, found reporter) {
	for _, f := range t.product() {
		l, ok := layerOf(f.dir)
		if !ok {
			found(f.dir, f.ast.Package, "%s is in no folder of ARCHITECTURE.md", f.path)
			continue
		}
		allowed := reach(l, map[string]bool{l.folder: true})
		for _, spec := range f.ast.Imports {
			p := importPath(spec)
			ours, isOurs := strings.CutPrefix(p, modulePath+"/")
			row, _ := layerOf(ours)
			switch {
			case standard(p):
			case isOurs && !allowed[row.folder]:
				found(f.dir+" "+ours, spec.Pos(), "%s imports %s; it may import %v: %s", f.dir, ours, slices.Sorted(maps.Keys(allowed)), l.why)
			case !isOurs && !withinAny(p, l.modules):
				found(f.dir+" "+p, spec.Pos(), "%s imports %s; of others it may import %v: %s", f.dir, p, l.modules, l.why)
			}
		}
	}
}

// testModules are for tests only.
var testModules = []string{
	"testing", "github.com/google/go-cmp", "pgregory.net/rapid", "go.uber.org/goleak", "golang.org/x/tools", "github.com/vishvananda", "go.opentelemetry.io",
	"google.golang.org/grpc", modulePath + "/test",
}

func checkTestImports(t *tree, found reporter) {
	for _, f := range t.product() {
		for _, spec := range f.ast.Imports {
			if p := importPath(spec); withinAny(p, testModules) {
				found(f.path+" "+p, spec.Pos(), "%s imports %s", f.path, p)
			}
		}
	}
}

// A ban forbids packages of the standard library to some folders and those below them.
type ban struct {
	folders, except []string
	packages        []string
	why             string
}

var (
	core    = []string{"proxy", "router", "tls", "config", "controllers"}
	product = append([]string{"cmd"}, core...)
)

// bans are what is forbidden beside the layers. What reads folders (router/manifest) does I/O; what exports metrics
// (proxy/observe) does it by HTTP, and so does what asks others about a request (proxy/subrequest) or tells of it (proxy/tracing): nothing of it is passed on as a message.
var bans = []ban{
	{
		folders: []string{"router"}, except: []string{"router/manifest"},
		packages: []string{
			"net", "net/http", "os", "os/signal", "syscall", "math/rand/v2", "crypto/rand", "runtime/debug",
		},
		why: "Build and the Table are pure: no clock, no I/O, no logger, no chance",
	},
	{
		folders: []string{"proxy"}, except: []string{"proxy/observe", "proxy/subrequest", "proxy/tracing"},
		packages: []string{"net/http", "net/http/httputil", "net/textproto"},
		why:      "there is no net/http between an HTTP/1.1 client and an HTTP/1.1 Pod: no header maps, no second parser with other rules",
	},
	{
		folders: core, packages: []string{"log", "log/slog", "expvar", "net/http/pprof"},
		why: "the data path speaks through the access log and metrics, controllers through logr; these packages have process-wide state",
	},
	{
		folders: product, packages: []string{"text/template", "html/template", "plugin", "os/exec"},
		why: "no templates, no scripts, no commands: what they made of user input was the worst hole of every ingress controller",
	},
	{
		folders: product, packages: []string{"unsafe", "C"},
		why: "tricks stay in one file, with the number that justifies them in the list of exceptions",
	},
	{folders: product, packages: []string{"io/ioutil", "math/rand"}, why: "they have better successors"},
}

func checkStandard(t *tree, found reporter) {
	for _, f := range t.product() {
		for _, spec := range f.ast.Imports {
			p := importPath(spec)
			for _, b := range bans {
				if slices.Contains(b.packages, p) && withinAny(f.dir, b.folders) && !withinAny(f.dir, b.except) {
					found(f.path+" "+p, spec.Pos(), "%s imports %s: %s", f.path, p, b.why)
				}
			}
		}
	}
}
