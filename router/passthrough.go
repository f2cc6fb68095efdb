package router

import "fmt"

// PassthroughFamily is the name of the family of annotations whose parsed value is a Passthrough. Build knows it, because it is about a whole
// host: whoever passes connections through knows nothing of paths.
const PassthroughFamily = "ssl-passthrough"

// Passthrough says where the TLS of a host ends: at its Pods, or here, which is the zero value. It is comparable.
type Passthrough struct {
	On bool
	// ProxyHeader is the version of the PROXY protocol by which the Pod is told who the client is, 0 for none.
	ProxyHeader uint8
}

// String returns the value for the text of a Table.
func (p Passthrough) String() string {
	switch {
	case !p.On:
		return "off"
	case p.ProxyHeader != 0:
		return fmt.Sprintf("on, PROXY header v%d", p.ProxyHeader)
	}
	return "on"
}
