package filters

import (
	"runtime"
	"time"

	"podlane.dev/podlane/proxy/limit"
	"podlane.dev/podlane/proxy/passwords"
	"podlane.dev/podlane/proxy/subrequest"
)

// Runtime is what filters use of the engine, which keeps it while tables come and go. It may be used concurrently.
type Runtime struct {
	// Subrequests makes requests of the proxy's own.
	Subrequests *subrequest.Client
	// HTTPSPort is the port of HTTPS, for redirects that say it; 0 means 443.
	HTTPSPort uint16
	// Zones are what requests are counted in. Epoch is where their clock begins.
	Zones *limit.Zones
	Epoch time.Time
	// Passwords checks passwords, and Nonces are what digest authentication has asked clients to sign.
	Passwords *passwords.Verifier
	Nonces    *passwords.Nonces
}

// NewRuntime returns a Runtime that has counted nothing.
func NewRuntime(httpsPort uint16) Runtime {
	now := time.Now()
	// Half of the processors go on with what costs little.
	verifier := passwords.NewVerifier(runtime.GOMAXPROCS(0) / 2)
	return Runtime{HTTPSPort: httpsPort, Zones: limit.NewZones(0), Epoch: now, Passwords: verifier, Nonces: passwords.NewNonces(now)}
}

// httpsPort returns the port of HTTPS. r may be nil.
func (r *Runtime) httpsPort() uint16 {
	if r == nil || r.HTTPSPort == 0 {
		return 443
	}
	return r.HTTPSPort
}

// orAlone returns r, or a Runtime for one Chain alone where r is nil.
func (r *Runtime) orAlone() *Runtime {
	if r != nil {
		return r
	}
	alone := NewRuntime(0)
	return &alone
}

// Sweep gives back memory that nobody needs. It is called every few seconds, by one goroutine at a time.
func (r *Runtime) Sweep(now time.Time) {
	r.Zones.Sweep(int64(now.Sub(r.Epoch)))
}
