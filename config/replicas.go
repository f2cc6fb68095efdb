package config

import (
	"fmt"

	"github.com/spf13/pflag"
)

// Replicas are the options of commands that ask running replicas: where those are. Source says which cluster.
type Replicas struct {
	// Admin are URLs of admin pages; where there are any, no cluster is looked at.
	Admin []string
	// Namespace is that of Podlane's Pods, "" for all; Selector selects them by label.
	Namespace, Selector string
	// Port is the admin port in the Pods, 0 for the one that their arguments name.
	Port int
}

// NewReplicas returns the defaults.
func NewReplicas() *Replicas { return &Replicas{Selector: "app.kubernetes.io/name=podlane"} }

// Title is the heading in --help.
func (*Replicas) Title() string { return "Replicas" }

// AddFlags binds the options to fs.
func (r *Replicas) AddFlags(fs *pflag.FlagSet) {
	fs.StringSliceVar(&r.Admin, "admin", r.Admin,
		"`URLs` of the admin pages (--admin-address) of the replicas to ask; without it Podlane's Pods are found in the cluster, and their admin ports forwarded")
	fs.StringVar(&r.Namespace, "podlane-namespace", r.Namespace, "`namespace` of Podlane's Pods; without it all are searched")
	fs.StringVar(&r.Selector, "selector", r.Selector, "`labels` of Podlane's Pods")
	fs.IntVar(&r.Port, "admin-port", r.Port, "admin `port` in the Pods; 0 takes that of their --admin-address, else 9091")
}

// Validate checks what can be told without looking.
func (r *Replicas) Validate() error {
	if r.Port < 0 || r.Port > 65535 {
		return fmt.Errorf("--admin-port: %d is not a port: write 9091", r.Port)
	}
	if r.Selector == "" {
		return fmt.Errorf("--selector: it is empty, and would find every Pod: write app.kubernetes.io/name=podlane")
	}
	return nil
}
