package config

import (
	"errors"

	"github.com/spf13/pflag"
)

// Scope says which namespaces' objects a command is about, with kubectl's flags.
type Scope struct {
	// Namespace is "" for the one of the kubeconfig's context. All is every namespace.
	Namespace string
	All       bool
	// single leaves -A out.
	single bool
}

// NewScope returns the defaults of commands that list.
func NewScope() *Scope { return &Scope{} }

// SingleScope returns the defaults of commands that name objects of one namespace.
func SingleScope() *Scope { return &Scope{single: true} }

// Title is the heading in --help.
func (*Scope) Title() string { return "Objects" }

// AddFlags binds the options to fs.
func (s *Scope) AddFlags(fs *pflag.FlagSet) {
	fs.StringVarP(&s.Namespace, "namespace", "n", s.Namespace, "`namespace` of the objects; without it that of the kubeconfig's context")
	if !s.single {
		fs.BoolVarP(&s.All, "all-namespaces", "A", s.All, "objects of all namespaces")
	}
}

// Validate refuses both at once.
func (s *Scope) Validate() error {
	if s.All && s.Namespace != "" {
		return errors.New("--namespace and --all-namespaces: write one of them")
	}
	return nil
}
