package main

import (
	"os"
	"path/filepath"
	"time"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/endpoints"
	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/router/manifest"
)

// manifests reads a folder as a Snapshot and addresses. It is for one goroutine.
type manifests struct {
	folder  string
	options ingress.Options
	reader  *manifest.Reader
}

func newManifests(folder string, options ingress.Options) *manifests {
	return &manifests{folder, options, manifest.NewReader(os.DirFS(folder))}
}

// read returns what the folder says now. The error says in plain words why it cannot be read.
func (m *manifests) read() (contents, error) {
	if err := checkFolder(m.folder); err != nil {
		return contents{}, err
	}
	set, err := m.reader.Read()
	if err != nil {
		return contents{}, err
	}
	c := contents{
		snapshot:  set.Snapshot,
		addresses: make(map[router.Service]map[string][]router.Address, len(set.Snapshot.Services)),
		problems:  make([]ingress.Problem, len(set.Problems)),
		locate:    func(p ingress.Problem) ingress.Problem { return m.inFolder(set.Locate(p)) },
	}
	c.snapshot.Options, c.snapshot.Taken = m.options, time.Now()
	for _, s := range set.Snapshot.Services {
		key := router.Service{Namespace: s.Namespace, Name: s.Name}
		c.addresses[key] = endpoints.Local.Addresses(s, set.Slices[key], set.Endpoints[key])
	}
	for i := range set.Problems {
		c.problems[i] = m.inFolder(set.Problems[i])
	}
	return c, nil
}

// inFolder makes file:line a path that the user's editor and terminal understand.
func (m *manifests) inFolder(p ingress.Problem) ingress.Problem {
	if p.Source != "" {
		p.Source = filepath.Join(m.folder, p.Source)
	}
	return p
}
