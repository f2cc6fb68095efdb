package filters

import (
	"errors"
	"fmt"

	"podlane.dev/podlane/proxy/expr"
	"podlane.dev/podlane/router/policy"
)

// Algorithm is a way to choose an endpoint.
type Algorithm uint8

// The algorithms.
const (
	// UsualAlgorithm is the proxy's own: the less loaded of two.
	UsualAlgorithm Algorithm = iota
	// RoundRobin takes one after the other.
	RoundRobin
	// EWMA takes the one of two that has answered faster of late.
	EWMA
)

// Balance says how the requests of a Backend are spread over its endpoints. It is immutable.
type Balance struct {
	Algorithm Algorithm
	// HashBy is what is hashed where requests that are alike belong together, else nil: then it goes before Algorithm. Subset, where it is not 0, is
	// over how many endpoints those are spread.
	HashBy *expr.Expr
	Subset int
}

// String returns b for the text of a Table.
func (b Balance) String() string {
	if b.HashBy != nil {
		return fmt.Sprintf("hash of %q, %d endpoints each", b.HashBy, max(b.Subset, 1))
	}
	return [...]string{"as usual", "round_robin", "ewma"}[b.Algorithm]
}

const balanceFamily = "load-balance"

// LoadBalance returns the family of how requests are spread over endpoints. Its value is a Balance.
func LoadBalance() Policy {
	return &Of[Balance]{
		Of: policy.Of[Balance]{
			Name: balanceFamily,
			Doc: "Says how requests are spread over the endpoints of a Service: where nothing is said, to the less loaded of two. A cookie (affinity) goes " +
				"before a hash, and that before the Service's own sessionAffinity: ClientIP, which goes before load-balance. All replicas agree about " +
				"what belongs where, and of n endpoints one that comes or goes moves one n-th of it. A canary has its own annotations for this.",
			Keys:      balanceKeys(),
			IfInvalid: policy.Ignore,
			Parse:     parseBalance,
		},
		Forward: func(f *Forwarding, v Balance) { f.Balance = v },
	}
}

func balanceKeys() []policy.Key {
	const otherHash = "the hash is another, so a client may be with another endpoint than there"
	return []policy.Key{
		{
			Name: "load-balance", Kind: policy.String, Where: policy.Everywhere, Default: "the less loaded of two", Compat: "round_robin", Example: "ewma",
			Doc:     "round_robin, or ewma: of two endpoints the one that has answered faster of late, weighed by how many requests it has.",
			Differs: "a Service's sessionAffinity: ClientIP, which ingress-nginx does not look at, is kept",
		},
		{
			Name: "upstream-hash-by", Kind: policy.String, Where: policy.Everywhere, Default: "none", Example: "$request_uri",
			Doc:     "An expression of nginx's variables: requests for which it is the same go to the same endpoint, while that is there.",
			Differs: otherHash,
		},
		{
			Name: "upstream-hash-by-subset", Kind: policy.Bool, Default: "false", Example: "true",
			Doc:     "Spreads requests that belong together over a few endpoints instead of one.",
			Differs: "each value has endpoints of its own instead of one of few groups; of two of them the less loaded is taken",
		},
		{
			Name: "upstream-hash-by-subset-size", Kind: policy.Int, Default: "3", Example: "2",
			Doc:     "How many endpoints these are, from 1 to 16.",
			Differs: "there more than 16 are taken",
		},
	}
}

const (
	defaultSubset = 3
	// maxSubset is upstream.MaxSubset.
	maxSubset = 16
)

func parseBalance(v policy.Values) (Balance, error) {
	var b Balance
	var errs []error
	switch text := v.Text("load-balance", ""); text {
	case "round_robin":
		b.Algorithm = RoundRobin
	case "ewma":
		b.Algorithm = EWMA
	default:
		if v.Has("load-balance") {
			errs = append(errs, &policy.ValueError{Key: "load-balance", Value: text, Want: `"round_robin" or "ewma"`})
		}
	}
	if text := v.Text("upstream-hash-by", ""); text != "" {
		e, err := expr.Parse(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("upstream-hash-by: %w", err))
		}
		b.HashBy = e
	}
	subset, err1 := v.Bool("upstream-hash-by-subset", false)
	size, err2 := v.IntRange("upstream-hash-by-subset-size", defaultSubset, 1, maxSubset)
	if subset {
		b.Subset = size
	}
	if err := errors.Join(append(errs, err1, err2)...); err != nil {
		return Balance{}, err
	}
	return b, nil
}
