package router

import (
	"fmt"
	"strings"
)

// ServerNamesFamily is the name of the policy family whose value is a ServerNames.
const ServerNamesFamily = "server-names"

// ServerNames are further names that an Ingress gives its hosts. It is immutable.
type ServerNames struct {
	// Aliases are hosts, wildcards, or, behind a ~, regular expressions of host names, whose requests the hosts answer.
	Aliases []string
	// WWW sends requests for the host with or without "www." in front to the other one.
	WWW bool
}

// String returns n for the text of a Table.
func (n ServerNames) String() string {
	text := "aliases " + strings.Join(n.Aliases, ", ")
	if len(n.Aliases) == 0 {
		text = "no alias"
	}
	if n.WWW {
		text += ", www"
	}
	return text
}

// OtherWWW returns the host with "www." in front, or without it.
func OtherWWW(host string) string {
	if bare, ok := strings.CutPrefix(host, "www."); ok {
		return bare
	}
	return fmt.Sprintf("www.%s", host)
}

// isHostPattern says whether the name of a host is a regular expression.
func isHostPattern(name string) bool { return strings.HasPrefix(name, "~") }
