package server

import (
	"cmp"
	"crypto/tls"
	"slices"
	"sync/atomic"

	"podlane.dev/podlane/router"
)

// Terms are what the operator says while the process runs, over what Options say. The zero value of a field means that Options hold. They are
// immutable: another pointer is other terms, and handshakes that begin from then on obey them.
type Terms struct {
	MinVersion, MaxVersion uint16
	CipherSuites           []uint16
	Curves                 []tls.CurveID
	Protocols              []string
	// Tickets turns tickets off, or on where TicketsSaid is set.
	Tickets     Tickets
	TicketsSaid bool
	// TicketKeys go before those of the Table.
	TicketKeys *router.TicketKeys
}

// under returns the chooser for the terms of now: the one that is asked where there are none.
func (c *chooser) under() *chooser {
	if c.terms == nil {
		return c
	}
	t := c.terms()
	if t == nil {
		return c
	}
	if changed := c.changed.Load(); changed != nil && changed.obeys == t {
		return changed
	}
	changed := c.changedBy(t)
	c.changed.Store(changed) // two at a time make two that are alike
	return changed
}

// changedBy returns a chooser that obeys t in what t says. Its keys are c's: who changes ciphers ends no session.
func (c *chooser) changedBy(t *Terms) *chooser {
	config := c.plain.Clone()
	config.GetConfigForClient = nil
	config.MinVersion, config.MaxVersion = cmp.Or(t.MinVersion, config.MinVersion), cmp.Or(t.MaxVersion, config.MaxVersion)
	if t.CipherSuites != nil {
		config.CipherSuites = slices.Clone(t.CipherSuites)
	}
	if t.Curves != nil {
		config.CurvePreferences = slices.Clone(t.Curves)
	}
	if t.Protocols != nil {
		config.NextProtos = slices.Clone(t.Protocols)
	}
	if t.TicketsSaid || t.Tickets == TicketsOff {
		config.SessionTicketsDisabled = t.Tickets == TicketsOff
	}
	n := &chooser{store: c.store, table: c.table, keys: c.keys, plain: &keyedConfig{Config: config, purpose: plainTickets}, strange: config.Clone()}
	n.obeys = t
	n.strange.SessionTicketsDisabled = true
	return n
}

// sharedKeys returns the keys of session tickets that the operator gives, nil for none.
func (c *chooser) sharedKeys(table *router.Table) *router.TicketKeys {
	if c.obeys != nil && c.obeys.TicketKeys != nil {
		return c.obeys.TicketKeys
	}
	return table.TicketKeys()
}

// changes is the chooser for the Terms of now, and what it obeys.
type changes struct {
	terms   func() *Terms
	changed atomic.Pointer[chooser]
	obeys   *Terms
}
