package filters

// Settings are what the operator's ConfigMap says about the whole proxy. The zero value of a field means that the proxy's own setting holds.
type Settings struct{}
