package upstream

import "net/netip"

// External says how ExternalName Services are resolved.
type External struct {
	// Deny and Allow are added to the refused addresses and taken out of them; Allow wins.
	Deny, Allow []netip.Prefix
}

type external struct {
	name string
	err  error
	stop func()
}

func (p *Pool) isExternal() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.external != nil
}
