package config

import (
	"errors"

	"github.com/spf13/pflag"
)

// Files are the options of serving without a cluster.
type Files struct {
	// From is the folder with manifests.
	From string
}

// NewFiles returns the defaults.
func NewFiles() *Files { return &Files{} }

// Title is the heading in --help.
func (*Files) Title() string { return "Manifests" }

// AddFlags binds the options to fs.
func (f *Files) AddFlags(fs *pflag.FlagSet) {
	fs.StringVar(&f.From, "from", f.From, "folder whose YAML and JSON files are served, and followed as they change")
}

// Validate requires a folder.
func (f *Files) Validate() error {
	if f.From == "" {
		return errors.New("--from is missing: write --from DIR, a folder with Ingresses, Services and EndpointSlices")
	}
	return nil
}
