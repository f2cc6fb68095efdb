package filters

// Runtime is what filters use of the engine, which keeps it while tables come and go. It may be used concurrently.
type Runtime struct {
	// HTTPSPort is the port of HTTPS, for redirects that say it; 0 means 443.
	HTTPSPort uint16
}

// httpsPort returns the port of HTTPS. r may be nil.
func (r *Runtime) httpsPort() uint16 {
	if r == nil || r.HTTPSPort == 0 {
		return 443
	}
	return r.HTTPSPort
}
