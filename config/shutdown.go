package config

import (
	"time"

	"github.com/spf13/pflag"
)

// Shutdown are the options of what SIGTERM does.
type Shutdown struct {
	// DrainDelay is how long connections are still accepted after readiness went off, so that the endpoints of
	// Podlane's own Service and the load balancer's targets are updated first.
	DrainDelay time.Duration
	// Timeout is how long requests in flight may take after that.
	Timeout time.Duration
}

// ControllerShutdown returns the defaults of `podlane controller`.
func ControllerShutdown() *Shutdown {
	return &Shutdown{DrainDelay: 10 * time.Second, Timeout: 240 * time.Second}
}

// ServeShutdown returns the defaults of `podlane serve`, where nothing in front has to notice.
func ServeShutdown() *Shutdown { return &Shutdown{Timeout: 5 * time.Second} }

// Title is the heading in --help.
func (*Shutdown) Title() string { return "Shutdown" }

// AddFlags binds the options to fs.
func (s *Shutdown) AddFlags(fs *pflag.FlagSet) {
	addDuration(fs, &s.DrainDelay, "drain-delay",
		"on SIGTERM, how long to keep accepting connections after readiness went off")
	addDuration(fs, &s.Timeout, "shutdown-timeout",
		"after the drain delay, how long requests in flight may take before they are cut; a second SIGTERM cuts them at once")
}

// Validate accepts every duration: 0 means at once.
func (*Shutdown) Validate() error { return nil }
