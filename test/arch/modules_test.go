package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// A pkg is what `go list` says about a package.
type pkg struct {
	ImportPath, ForTest                string
	Standard, DepOnly                  bool
	Module                             *struct{ Path string }
	Imports, TestImports, XTestImports []string
	Deps                               []string
}

// list asks the go command for every package of ours and, with them, everything that is linked into the binary or a test.
func list(t *testing.T) map[string]*pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-deps", "-test",
		"-json=ImportPath,ForTest,Standard,DepOnly,Module,Imports,TestImports,XTestImports,Deps", "./...")
	cmd.Dir = "../.."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*pkg{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		p := new(pkg)
		if err := d.Decode(p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = p
	}
}

// direct are the modules that we depend on directly, and what for. Before another one is added: is it kept well, is it what this field
// uses, and would a hundred lines of our own not do?
var direct = map[string]string{
	"github.com/andybalholm/brotli":       "proxy/bodies: compression; the standard library has no brotli",
	"github.com/fsnotify/fsnotify":        "serve: follow files",
	"github.com/go-logr/logr":             "controllers: the logger's interface, controller-runtime's",
	"github.com/go-logr/zapr":             "cmd: logr on zap",
	"github.com/klauspost/compress":       "proxy/bodies: gzip, two to three times as fast as the standard library's",
	"github.com/prometheus/client_golang": "metrics",
	"github.com/prometheus/client_model":  "metrics: its data types, which come with client_golang",
	"github.com/prometheus/common":        "metrics: their text format, which comes with client_golang",
	"github.com/spf13/cobra":              "cmd: sub-commands, help, completion",
	"github.com/spf13/pflag":              "flags",
	"github.com/tg123/go-htpasswd":        "proxy/passwords: the formats of hashes in password files",
	"go.uber.org/zap":                     "cmd: logs",
	"go.yaml.in/yaml/v3":                  "router/manifest: the line that a mistake is on; sigs.k8s.io/yaml stands on it",
	"golang.org/x/net":                    "HTTP/2: frames and header compression; cmd: hosts as clients send them",
	"golang.org/x/sys":                    "system calls that package syscall lacks",
	"google.golang.org/protobuf":          "proxy/tracing: the wire format of OTLP",
	"k8s.io/api":                          "types of Kubernetes' objects",
	"k8s.io/apimachinery":                 "their machinery",
	"k8s.io/client-go":                    "the API client",
	"k8s.io/klog/v2":                      "cmd: client-go's log, sent to ours",
	"k8s.io/streaming":                    "cmd/podlane/replicas: the types of client-go's port-forward",
	"sigs.k8s.io/controller-runtime":      "caches, queues, leader election",
	"sigs.k8s.io/json":                    "router/manifest: the API server's own strict decoding",
	"sigs.k8s.io/yaml":                    "serve: manifests",
}

// directForTests are direct dependencies of tests, and of what is under test/, alone.
var directForTests = map[string]string{
	"github.com/google/go-cmp":               "differences that can be read",
	"github.com/pires/go-proxyproto":         "proxy/preamble: another reader of the same headers",
	"github.com/vishvananda/netlink":         "test/cluster: addresses in a network namespace",
	"github.com/vishvananda/netns":           "test/cluster: network namespaces",
	"go.opentelemetry.io/proto/otlp":         "test/collector: OTLP, as OpenTelemetry publishes it",
	"google.golang.org/grpc":                 "test/collector: a server of gRPC that is not ours",
	"go.uber.org/goleak":                     "goroutines that a test leaves behind",
	"golang.org/x/sync":                      "groups of goroutines",
	"golang.org/x/tools":                     "txtar: golden files",
	"pgregory.net/rapid":                     "properties",
	"golang.org/x/crypto/x509roots/fallback": "test/image: certificate authorities for the image, vouched for by go.sum",
}

// TestDirectModules holds the direct dependencies to the two lists: by the imports of our packages, not by what go.mod says.
func TestDirectModules(t *testing.T) {
	t.Parallel()
	all := list(t)
	moduleOf := func(path string) string {
		if p := all[path]; p != nil && p.Module != nil && !p.Standard {
			return p.Module.Path
		}
		return modulePath
	}
	used := map[string]bool{}
	for _, p := range all {
		if p.DepOnly || p.ForTest != "" || moduleOf(p.ImportPath) != modulePath {
			continue
		}
		product := !within(p.ImportPath, modulePath+"/test")
		for _, path := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			module := moduleOf(path)
			if module == modulePath {
				continue
			}
			used[module] = true
			forTests := !product || !slices.Contains(p.Imports, path)
			if direct[module] == "" && (directForTests[module] == "" || !forTests) {
				t.Errorf("%s imports %s: the module %s is not in the list of direct dependencies", p.ImportPath, path, module)
			}
		}
	}
	for module := range directForTests {
		if direct[module] != "" {
			t.Errorf("%s is in both lists", module)
		}
	}
}

// A closure is what a package must not be linked with, however far away the import is.
type closure struct {
	folders []string
	except  []string
	never   []string
	why     string
}

var closures = []closure{
	{
		folders: []string{"proxy", "tls"}, never: []string{"k8s.io", "sigs.k8s.io", modulePath + "/controllers", modulePath + "/router/ingress"},
		why: "the whole proxy builds, tests and fuzzes without Kubernetes",
	},
	{
		folders: []string{"router"}, except: []string{"router/ingress", "router/endpoints", "router/manifest", "router/migrate"},
		never: []string{"net/http", "k8s.io", "sigs.k8s.io"},
		why:   "the Table is a value that anything may use",
	},
	{
		folders: []string{"router"}, never: []string{"k8s.io/client-go", "sigs.k8s.io/controller-runtime"},
		why: "Build reads a Snapshot; it must have no way to ask for more",
	},
	{
		folders: []string{"controllers"}, never: []string{modulePath + "/proxy", modulePath + "/tls", modulePath + "/config"},
		why: "controllers meet the proxy in cmd/podlane, through plain functions",
	},
	{
		folders: []string{"cmd", "config", "controllers", "proxy", "router", "tls"}, never: []string{"testing", modulePath + "/test"},
		why: "what only tests need is not linked into the binary",
	},
}

// breaches returns what TestClosures finds, and the number of packages that it looked at.
func breaches(all map[string]*pkg) (found []string, checked int) {
	for _, p := range all {
		folder, ours := strings.CutPrefix(p.ImportPath, modulePath+"/")
		if !ours || p.ForTest != "" || strings.HasSuffix(p.ImportPath, ".test") {
			continue
		}
		for _, c := range closures {
			if !withinAny(folder, c.folders) || withinAny(folder, c.except) {
				continue
			}
			checked++
			// One is enough: the others come with it.
			if i := slices.IndexFunc(p.Deps, func(dep string) bool { return withinAny(dep, c.never) }); i >= 0 {
				found = append(found, folder+" is linked with "+p.Deps[i]+"\n\tbecause: "+c.why)
			}
		}
	}
	slices.Sort(found)
	return found, checked
}

func TestClosures(t *testing.T) {
	t.Parallel()
	found, checked := breaches(list(t))
	for _, b := range found {
		t.Error(b)
	}
	if checked < 10 {
		t.Errorf("only %d packages were looked at", checked)
	}
}

func TestClosuresFindWhatTheyForbid(t *testing.T) {
	t.Parallel()
	all := map[string]*pkg{}
	for path, deps := range map[string][]string{
		"proxy/http1":      {"net/http", "k8s.io/api/core/v1"},
		"router":           {"net/http/internal"},
		"router/ingress":   {"net/http", "k8s.io/api/core/v1", "k8s.io/client-go/rest"},
		"controllers":      {modulePath + "/proxy/upstream", "net/http"},
		"cmd/podlane":      {modulePath + "/test/cluster", modulePath + "/proxy"},
		"test/e2e":         {"testing", "k8s.io/api/core/v1"},
		"controllers.test": {"testing"},
	} {
		all[path] = &pkg{ImportPath: modulePath + "/" + path, Deps: deps}
	}
	all["proxy/http1"].Deps = append(all["proxy/http1"].Deps, modulePath+"/proxy/exchange")
	var got []string
	found, _ := breaches(all)
	for _, b := range found {
		line, _, _ := strings.Cut(b, "\n")
		got = append(got, line)
	}
	want := []string{
		"cmd/podlane is linked with " + modulePath + "/test/cluster",
		"controllers is linked with " + modulePath + "/proxy/upstream",
		"proxy/http1 is linked with k8s.io/api/core/v1",
		"router is linked with net/http/internal",
		"router/ingress is linked with k8s.io/client-go/rest",
	}
	if !slices.Equal(got, want) {
		t.Errorf("found\n\t%s", strings.Join(got, "\n\t"))
	}
}
