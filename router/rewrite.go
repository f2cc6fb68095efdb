package router

// RewriteFamily is the name of the policy family whose value is a Rewrite.
const RewriteFamily = "rewrite-target"

// Rewrite is what an Ingress says about its paths as patterns. It is immutable.
type Rewrite struct {
	// Target is what the path becomes, nil where it stays.
	Target *Target
	// Regex says that the paths are regular expressions.
	Regex bool
	// ForwardedPrefix is the X-Forwarded-Prefix that goes to the Pod where the path was rewritten, "" for none.
	ForwardedPrefix string
}

// String returns r for the text of a Table.
func (r Rewrite) String() string {
	text := "off"
	switch {
	case r.Target != nil:
		text = r.Target.String()
	case r.Regex:
		text = "regex"
	}
	if r.ForwardedPrefix != "" {
		text += ", prefix " + r.ForwardedPrefix
	}
	return text
}

// Changes says whether the Target is another path than the one written. ingress-nginx takes a target that is the path itself for none.
func (r Rewrite) Changes(path string) bool { return r.Target != nil && r.Target.text != path }
