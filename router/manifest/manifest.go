// Package manifest reads a folder of Kubernetes manifests into the objects that Build and the endpoints read, as an API
// server would have them: strictly decoded, with defaults, in today's versions. It owns files, documents and their lines,
// and says what is wrong with them as Problems; it knows nothing of routes, and it only reads.
package manifest

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
)

// MaxFile is the size of the largest file that is read, in bytes.
const MaxFile = 16 << 20

// Set is the objects of a folder. Its objects may be shared with other Sets of the same Reader and must not be changed.
type Set struct {
	// Snapshot has no Options. An object that did not change is the same pointer as in the Reader's Set before.
	Snapshot ingress.Snapshot
	// Slices and Endpoints are by the Service that they belong to, slices sorted by name.
	Slices    map[router.Service][]*discoveryv1.EndpointSlice
	Endpoints map[router.Service]*corev1.Endpoints
	// Problems are what is wrong with files and documents, in the order of files and lines. Those of Reason
	// ingress.ManifestInvalid say that objects may be missing: whoever has a Table should keep it.
	Problems []ingress.Problem

	origins map[objectKey]*origin
}

// Complete says whether every file and document could be read.
func (s *Set) Complete() bool {
	return !slices.ContainsFunc(s.Problems, func(p ingress.Problem) bool { return p.Reason == ingress.ManifestInvalid })
}

// Reader reads one folder again and again, and decodes only the files that changed. It is used by one goroutine at a time.
type Reader struct {
	folder fs.FS
	files  map[string]*file
}

// NewReader returns a Reader of folder.
func NewReader(folder fs.FS) *Reader { return &Reader{folder: folder, files: map[string]*file{}} }

// Read reads every file below folder once. See Reader.Read.
func Read(folder fs.FS) (*Set, error) { return NewReader(folder).Read() }

// Read reads every .yaml, .yml and .json file below the folder, in the order of their names. Names that begin with a dot
// are left out, and links are followed: a mounted ConfigMap is links to a folder that begins with a dot, which changes as a
// whole. Kinds that are not needed are left out in silence. What cannot be read is a Problem and takes nothing else along;
// the error is non-nil only if the folder itself cannot be read.
func (r *Reader) Read() (*Set, error) {
	w := &walk{folder: r.folder}
	info, err := fs.Stat(r.folder, ".")
	if err != nil {
		return nil, fmt.Errorf("read the manifests: %w", err)
	}
	if _, err = fs.ReadDir(r.folder, "."); err != nil {
		return nil, fmt.Errorf("read the manifests: %w", err)
	}
	w.enter(".", []fs.FileInfo{info})
	slices.SortFunc(w.found, func(a, b foundFile) int { return strings.Compare(a.name, b.name) })
	c := newCollector()
	c.problems = w.problems
	files := make(map[string]*file, len(w.found))
	for _, found := range w.found {
		f := r.read(found)
		files[found.name] = f
		c.file(f)
	}
	r.files = files
	return c.finish(), nil
}

// read returns a file: the one of the last time, if its text is the same.
func (r *Reader) read(found foundFile) *file {
	if found.info.Size() > MaxFile {
		return brokenFile(found.name, fmt.Sprintf("the file has %d bytes, more than the %d that are read", found.info.Size(), MaxFile))
	}
	text, err := fs.ReadFile(r.folder, found.name)
	if err != nil {
		return brokenFile(found.name, "the file cannot be read: "+reasonOf(err))
	}
	if old := r.files[found.name]; old != nil && old.text == string(text) && !old.unreadable {
		return old
	}
	return parseFile(found.name, string(text))
}

// reasonOf returns what is wrong with a file, without its name, which the Problem has.
func reasonOf(err error) string {
	if inPath, ok := errors.AsType[*fs.PathError](err); ok {
		return inPath.Err.Error()
	}
	return err.Error()
}

// walk finds the files.
type walk struct {
	folder   fs.FS
	found    []foundFile
	problems []ingress.Problem
}

type foundFile struct {
	name string
	info fs.FileInfo
}

// enter walks one folder. above are the folders that it is in, itself the last, by which a link in a circle is noticed.
func (w *walk) enter(folder string, above []fs.FileInfo) {
	entries, err := fs.ReadDir(w.folder, folder)
	if err != nil {
		w.problems = append(w.problems, fileProblem(folder, "the folder cannot be read: "+reasonOf(err)))
		return
	}
	for _, e := range entries {
		name := path.Join(folder, e.Name())
		if strings.HasPrefix(e.Name(), ".") || !e.IsDir() && e.Type()&fs.ModeSymlink == 0 && !isManifest(name) {
			continue
		}
		info, err := fs.Stat(w.folder, name)
		switch {
		case errors.Is(err, fs.ErrNotExist) && !isManifest(name):
			// A link that leads nowhere, to what would not be a manifest by its name.
		case err != nil:
			w.problems = append(w.problems, fileProblem(name, "the file cannot be read: "+reasonOf(err)))
		case info.IsDir():
			if !slices.ContainsFunc(above, func(a fs.FileInfo) bool { return os.SameFile(a, info) }) {
				w.enter(name, append(slices.Clip(above), info))
			}
		case isManifest(name) && info.Mode().IsRegular():
			w.found = append(w.found, foundFile{name, info})
		}
	}
}

// isManifest says whether a file is one to read, by its name. The files of kustomize and Helm are not objects.
func isManifest(name string) bool {
	switch path.Base(name) {
	case "kustomization.yaml", "kustomization.yml", "Chart.yaml":
		return false
	}
	switch path.Ext(name) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

// fileProblem is a Problem of a whole file or folder.
func fileProblem(name, message string) ingress.Problem {
	return ingress.Problem{
		Object: ingress.Object{Kind: "File", Name: name}, Reason: ingress.ManifestInvalid, Effect: ingress.RouteDropped,
		Message: message, Source: name,
	}
}

// objectKey names an object among those that are read.
type objectKey struct{ kind, namespace, name string }

// collector puts the documents of all files together.
type collector struct {
	set      *Set
	problems []ingress.Problem
	count    int64 // objects so far: it makes up the age of those that have none
}

func newCollector() *collector {
	return &collector{set: &Set{
		Slices:    map[router.Service][]*discoveryv1.EndpointSlice{},
		Endpoints: map[router.Service]*corev1.Endpoints{},
		origins:   map[objectKey]*origin{},
	}}
}

// file adds the objects of a file. Of two that are the same object the first counts.
func (c *collector) file(f *file) {
	c.problems = append(c.problems, f.problems...)
	for _, o := range f.objects {
		c.count++
		if first, dup := c.set.origins[o.key]; dup {
			c.problems = append(c.problems, ingress.Problem{
				Object: o.key.object(), Field: "metadata.name", Reason: ingress.DuplicateObject, Effect: ingress.Ignored,
				Message: fmt.Sprintf("%s is in %s already, and that one is used", o.key.object(), first.source("")),
				Source:  o.origin.source("metadata.name"),
			})
			continue
		}
		c.set.origins[o.key] = o.origin
		o.complete(c.count)
		o.addTo(c.set)
	}
}

// object names a key for a Problem.
func (k objectKey) object() ingress.Object {
	return ingress.Object{Kind: k.kind, Namespace: k.namespace, Name: k.name}
}

// finish sorts what has an order.
func (c *collector) finish() *Set {
	for _, list := range c.set.Slices {
		slices.SortFunc(list, func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) })
	}
	c.set.Problems = c.problems
	return c.set
}

// Locate returns p with Source set to the file and line of its object and field, or of what is nearest to the field. p
// comes from ingress.Build for s.Snapshot. It is not safe for concurrent use.
func (s *Set) Locate(p ingress.Problem) ingress.Problem {
	if p.Source == "" {
		if o := s.origins[objectKey{p.Object.Kind, p.Object.Namespace, p.Object.Name}]; o != nil {
			p.Source = o.source(p.Field)
		}
	}
	return p
}
