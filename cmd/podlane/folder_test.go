package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
)

// fakePlane writes down what a folder does to it.
type fakePlane struct {
	pools map[router.ServicePort]bool
	log   []string
}

func (p *fakePlane) Prepare(t *router.Table) []router.Service {
	var fresh []router.Service
	for port := range t.Ports() {
		if !p.pools[port] {
			p.pools[port] = true
			fresh = append(fresh, port.Service())
		}
	}
	p.log = append(p.log, "prepare")
	return fresh
}

func (p *fakePlane) SetAddresses(s router.Service, byPort map[string][]router.Address) {
	p.log = append(p.log, fmt.Sprintf("addresses of %s: %d", s, len(byPort[""])))
}

func (p *fakePlane) Publish(t *router.Table) {
	p.log = append(p.log, fmt.Sprintf("publish %d", t.Len()))
}

// took returns what was done since the last call.
func (p *fakePlane) took() []string {
	log := p.log
	p.log = nil
	return log
}

// fakeFolder is a folder whose contents and Build a test decides.
type fakeFolder struct {
	*folder
	plane    *fakePlane
	out      *strings.Builder
	contents contents
	failure  error
	table    *router.Table
	found    []ingress.Problem
	panics   bool
}

func newFakeFolder() *fakeFolder {
	f := &fakeFolder{plane: &fakePlane{pools: map[router.ServicePort]bool{}}, out: new(strings.Builder), table: new(router.Table)}
	f.contents.locate = func(p ingress.Problem) ingress.Problem { p.Source = "a.yaml:1"; return p }
	f.folder = &folder{
		read: func() (contents, error) { return f.contents, f.failure },
		build: func(ingress.Snapshot) (*router.Table, []ingress.Problem) {
			if f.panics {
				panic("a bug")
			}
			return f.table, f.found
		},
		plane: f.plane, report: &report{w: f.out},
	}
	return f
}

func (f *fakeFolder) addresses(service string, byPort map[string][]router.Address) {
	next := map[router.Service]map[string][]router.Address{}
	maps.Copy(next, f.contents.addresses)
	next[router.Service{Namespace: "default", Name: service}] = byPort
	f.contents.addresses = next
}

func (f *fakeFolder) loads(t *testing.T, want ...string) {
	t.Helper()
	if err := f.load(time.Now()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, f.plane.took()); diff != "" {
		t.Errorf("what the data plane was told (-want +got):\n%s", diff)
	}
}

func TestFolderTellsThePlaneWhatChanged(t *testing.T) {
	f := newFakeFolder()
	if f.ready() == nil {
		t.Error("ready before the first load")
	}
	f.table = router.NewTable([]*router.Route{routeTo("a.example", "/", "web")}, nil)
	f.addresses("web", readyAt("10.0.0.1:80"))
	f.loads(t, "prepare", "addresses of default/web: 1", "publish 1")
	if err := f.ready(); err != nil {
		t.Errorf("not ready after the first load: %v", err)
	}
	f.loads(t, "prepare") // nothing changed

	f.addresses("web", readyAt("10.0.0.1:80", "10.0.0.2:80"))
	f.loads(t, "prepare", "addresses of default/web: 2") // endpoints never publish a table

	f.table = router.NewTable([]*router.Route{routeTo("a.example", "/", "web"), routeTo("a.example", "/x", "web")}, nil)
	f.loads(t, "prepare", "publish 2")

	f.contents.addresses = nil
	f.loads(t, "prepare", "addresses of default/web: 0")
}

// TestFolderAddressesComeFirst: a new route must find the addresses of its Service although they did not change.
func TestFolderAddressesComeFirst(t *testing.T) {
	f := newFakeFolder()
	f.addresses("web", readyAt("10.0.0.1:80"))
	f.loads(t, "prepare", "addresses of default/web: 1", "publish 0")
	f.table = router.NewTable([]*router.Route{routeTo("a.example", "/", "web")}, nil)
	f.loads(t, "prepare", "addresses of default/web: 1", "publish 1")
}

func TestFolderKeepsWhatIsLive(t *testing.T) {
	f := newFakeFolder()
	f.table = router.NewTable([]*router.Route{routeTo("a.example", "/", "web")}, nil)
	f.found = []ingress.Problem{{Reason: ingress.ServiceMissing, Message: "of the build"}}
	f.loads(t, "prepare", "addresses of default/web: 0", "publish 1")
	synced := f.lastSync()

	f.table = new(router.Table)
	f.contents.problems = []ingress.Problem{{Reason: ingress.ManifestInvalid, Message: "of the file"}}
	f.loads(t)
	f.loads(t)
	if got := strings.Count(f.out.String(), "what is live stays"); got != 1 {
		t.Errorf("said %d times that it stays, want once:\n%s", got, f.out.String())
	}
	if f.lastSync() != synced {
		t.Error("a load that was not published counts as synced")
	}
	var messages []string
	for _, p := range f.current() {
		messages = append(messages, p.Source+" "+p.Message)
	}
	if want := []string{" of the file", "a.yaml:1 of the build"}; !slices.Equal(messages, want) {
		t.Errorf("problems %q, want %q", messages, want)
	}

	f.contents.problems = nil
	f.loads(t, "prepare", "publish 0")
	for _, want := range []string{"- http://a.example/\n", "= 0 routes, live ", "✓ 1 problem solved\n"} {
		if !strings.Contains(f.out.String(), want) {
			t.Errorf("%q not said:\n%s", want, f.out.String())
		}
	}
}

func TestFolderTakesWhatItCanAtFirst(t *testing.T) {
	f := newFakeFolder()
	f.contents.problems = []ingress.Problem{{Reason: ingress.ManifestInvalid}}
	f.loads(t, "prepare", "publish 0")
}

func TestFolderSurvivesAPanicInBuild(t *testing.T) {
	f := newFakeFolder()
	f.loads(t, "prepare", "publish 0")
	f.panics = true
	if err := f.load(time.Now()); err == nil || !strings.Contains(err.Error(), "a bug") {
		t.Errorf("error %v, want the panic", err)
	}
	f.panics = false
	f.loads(t, "prepare")
}

func TestFolderThatCannotBeRead(t *testing.T) {
	f := newFakeFolder()
	f.failure = errors.New("no such folder")
	if err := f.load(time.Now()); !errors.Is(err, f.failure) || f.ready() == nil {
		t.Errorf("error %v, ready %v; want the failure, and not ready", err, f.ready())
	}
	if took := f.plane.took(); took != nil {
		t.Errorf("the data plane was told %q", took)
	}
}

func TestReportIsShort(t *testing.T) {
	var out strings.Builder
	r := &report{w: &out}
	var many []string
	for i := range 1000 {
		many = append(many, fmt.Sprintf("+ route %d", i))
	}
	r.changed(many, 1000, 0)
	if lines := strings.Count(out.String(), "\n"); lines != maxLines+2 || !strings.Contains(out.String(), "… and 960 more") {
		t.Errorf("%d lines:\n%s", lines, out.String())
	}
	out.Reset()
	r.changed(nil, 1000, 0)
	if out.Len() > 0 {
		t.Errorf("nothing changed, but it said %q", out.String())
	}
}
