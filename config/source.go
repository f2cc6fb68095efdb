package config

import (
	"github.com/spf13/pflag"
)

// Source are the options of commands that read objects once: from a folder, or from a cluster.
type Source struct {
	// From is the folder with manifests; "" reads the cluster of Kubeconfig and Context.
	From, Kubeconfig, Context string
	// clusterOnly leaves --from out.
	clusterOnly bool
}

// NewSource returns the defaults.
func NewSource() *Source { return &Source{} }

// ClusterSource returns the defaults of commands that need a cluster: they have no From.
func ClusterSource() *Source { return &Source{clusterOnly: true} }

// Title is the heading in --help.
func (*Source) Title() string { return "Source" }

// AddFlags binds the options to fs.
func (s *Source) AddFlags(fs *pflag.FlagSet) {
	if !s.clusterOnly {
		fs.StringVar(&s.From, "from", s.From, "folder of YAML and JSON files; without it the cluster is read, and nothing is written to it")
	}
	fs.StringVar(&s.Kubeconfig, "kubeconfig", s.Kubeconfig, "kubeconfig file; without it $KUBECONFIG, then ~/.kube/config")
	fs.StringVar(&s.Context, "context", s.Context, "context of the kubeconfig; without it the current one")
}

// Validate accepts everything: what cannot be read is said by who reads it.
func (s *Source) Validate() error { return nil }
