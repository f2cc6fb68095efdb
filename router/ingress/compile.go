package ingress

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"podlane.dev/podlane/router"
)

// This file compiles one Ingress by itself: everything that can be said about it without looking at other Ingresses.

// The limits of one Ingress (SECURITY.md C8). One that is beyond them is refused as a whole.
const (
	// MaxPaths is how many paths the rules of one Ingress may have, a rule without paths counted as one.
	MaxPaths = 1000
	// MaxTLSHosts is how many hosts the spec.tls of one Ingress may list.
	MaxTLSHosts = 1000
)

// age orders Ingresses: the oldest first, then by namespace and name.
type age struct {
	created time.Time
	name    types.NamespacedName
}

// compare returns a negative number where a wins over b.
func (a age) compare(b age) int {
	return cmp.Or(a.created.Compare(b.created), compareNames(a.name, b.name))
}

// compiled is what one Ingress of ours says. It is immutable, and holds nothing of the Ingress object but strings.
type compiled struct {
	object   Object
	age      age
	policies *policySet
	// auth is what it asks of the clients of its hosts, nil where it says nothing about them.
	auth *clientAuth
	// ciphers are those that its hosts offer, nil where it says nothing about them.
	ciphers *router.TLSCiphers
	// ciphersField is the annotation by which it says so.
	ciphersField string
	// rewrite is what it says about its paths, canary which requests it takes from others.
	rewrite router.Rewrite
	canary  router.Canary
	// names are further names of its hosts.
	names router.ServerNames
	// passthrough is the annotation by which it asks for TLS to pass through, "" where it does not.
	passthrough string
	hosts       []*hostClaims
	tls         []*tlsEntry
	// defaultBackend is nil where there is none, and so is errorBackend.
	defaultBackend, errorBackend *router.Backend
	problems                     []Problem
	// faults are why it cannot be used as it is; they do not say what becomes of it. unresolved says that a policy that fails closed names what
	// cannot be used.
	faults     []Problem
	unresolved bool
	// stands is how long nothing else is to be said about its certificates.
	stands validity
	// mode is how the Ingress is read.
	mode mode
	// services, secrets and configMaps are the objects that were read, there or not; each is sorted and without duplicates.
	services, secrets, configMaps []types.NamespacedName
}

// name returns the Ingress as messages name it.
func (c *compiled) name() string { return c.object.Namespace + "/" + c.object.Name }

// namesHost says whether a rule has a host, so that the default backend has requests of its own.
func (c *compiled) namesHost() bool {
	return slices.ContainsFunc(c.hosts, func(h *hostClaims) bool { return h.host != "" })
}

// hostClaims is what one Ingress says about one host.
type hostClaims struct {
	host  string
	paths []pathClaim
}

// pathClaim is one path of one rule.
type pathClaim struct {
	rule, index int // its place, for Problems
	path        checkedPath
	backend     router.Backend
}

// tlsEntry is one member of spec.tls.
type tlsEntry struct {
	index  int
	secret string // as it is written; "" is the operator's default certificate
	// pair is nil where there is no usable certificate.
	keyPair keyPair
	hosts   []string
	// implied says that the entry lists no hosts: hosts are those of the rules, as far as the certificate covers them.
	implied bool
}

// sources is what compiling reads. The functions return nil for what is not there.
type sources struct {
	options     Options
	ownership   *Ownership
	policies    *policyReader
	service     func(types.NamespacedName) *corev1.Service
	secret      func(types.NamespacedName) *corev1.Secret
	keyPair     func(types.NamespacedName) (keyPair, bool)
	authority   func(types.NamespacedName) (authority, bool)
	defaultPair keyPair
	// taken is the time of the present Snapshot.
	taken time.Time
}

// compiler compiles one Ingress.
type compiler struct {
	*sources
	ingress *networkingv1.Ingress
	out     *compiled
	scheme  router.PodScheme // of the annotation
	podTLS  *podTLS          // nil before it was asked for
}

// compileAlone returns what i says, whatever it was in its last good form; old is what it came to before, or nil.
func (s *sources) compileAlone(i *networkingv1.Ingress, old *compiled) (out *compiled) {
	if old == nil {
		old = &compiled{}
	}
	c := &compiler{sources: s, ingress: i, out: newCompiled(i)}
	defer func() {
		if cause := recover(); cause != nil {
			out = c.fail(cause)
		}
	}()
	c.compile(old)
	return c.out
}

// newCompiled returns what an Ingress is before anything is known of it.
func newCompiled(i *networkingv1.Ingress) *compiled {
	return &compiled{object: objectOf(i), age: age{i.CreationTimestamp.Time, nameOf(i.Namespace, i.Name)}, policies: &policySet{object: objectOf(i)}}
}

// fail returns what an Ingress comes to in which compiling panicked: it is refused as a whole, and costs no other anything. What was read
// until then is kept, because another content of it may be bearable.
func (c *compiler) fail(cause any) *compiled {
	out := newCompiled(c.ingress)
	out.mode, out.policies = c.out.mode, c.out.policies
	out.services, out.secrets, out.configMaps = sortedNames(c.out.services), sortedNames(c.out.secrets), c.out.configMaps
	p := Problem{Object: out.object, Field: "spec", Reason: PolicyFailed, Effect: RouteDropped, Message: fmt.Sprintf("Podlane failed to read the Ingress (panic: %v): please report it", cause)}
	out.faults = []Problem{p}
	p.Message += "; until then the whole Ingress is refused"
	out.problems = []Problem{p}
	return out
}

// compile fills in what the Ingress says; old is not nil.
func (c *compiler) compile(old *compiled) {
	s, i := c.sources, c.ingress
	c.out.mode = s.ownership.mode(i)
	c.out.policies = s.policies.readPolicies(i, c.out.mode, old.policies)
	c.out.secrets = slices.AppendSeq(c.out.secrets, maps.Keys(c.out.policies.looked.secrets))
	c.out.configMaps = slices.SortedFunc(maps.Keys(c.out.policies.looked.configMaps), compareNames)
	c.out.problems = append(slices.Clone(c.out.policies.problems), s.ownership.problems(i)...)
	c.out.faults, c.out.unresolved = slices.Clone(c.out.policies.faults), c.out.policies.unresolved
	if c.tooLarge() {
		return
	}
	c.out.rewrite, _ = c.out.policies.value(router.RewriteFamily).(router.Rewrite)
	c.out.canary, _ = c.out.policies.value(router.CanaryFamily).(router.Canary)
	c.out.names, _ = c.out.policies.value(router.ServerNamesFamily).(router.ServerNames)
	c.clientAuth(old.auth)
	c.ciphers(old.ciphers)
	c.passthrough()
	c.pods()
	c.errors()
	if b := i.Spec.DefaultBackend; b != nil {
		backend := c.backend(b, func() string { return "spec.defaultBackend" })
		c.out.defaultBackend = &backend
	}
	c.rules()
	for index := range i.Spec.TLS {
		c.tls(index)
	}
	if len(i.Spec.Rules) == 0 && i.Spec.DefaultBackend == nil {
		c.report("spec", Problem{Reason: NoBackend, Effect: Notice, Message: "there are neither rules nor a defaultBackend, so the Ingress does nothing"})
	}
	c.out.services = sortedNames(c.out.services)
	c.out.secrets = sortedNames(c.out.secrets)
}

// sortedNames sorts names and removes duplicates.
func sortedNames(names []types.NamespacedName) []types.NamespacedName {
	slices.SortFunc(names, compareNames)
	return slices.Compact(names)
}

// report adds a Problem of the Ingress.
func (c *compiler) report(field string, p Problem) {
	p.Object, p.Field = c.out.object, field
	c.out.problems = append(c.out.problems, p)
}

// tooLarge refuses an Ingress that is beyond the limits.
func (c *compiler) tooLarge() bool {
	paths, hosts := 0, 0
	for _, r := range c.ingress.Spec.Rules {
		if r.HTTP != nil {
			paths += len(r.HTTP.Paths)
		}
		if r.HTTP == nil || len(r.HTTP.Paths) == 0 {
			paths++
		}
	}
	for _, t := range c.ingress.Spec.TLS {
		hosts += len(t.Hosts)
	}
	p := Problem{Reason: TooLarge, Effect: RouteDropped}
	switch {
	case paths > MaxPaths:
		p.Field, p.Message = "spec.rules", fmt.Sprintf("there are %d paths, and one Ingress may have %d: split it", paths, MaxPaths)
	case hosts > MaxTLSHosts:
		p.Field, p.Message = "spec.tls", fmt.Sprintf("there are %d hosts, and one Ingress may have %d: split it", hosts, MaxTLSHosts)
	default:
		return false
	}
	p.Object = c.out.object
	c.out.faults = append(c.out.faults, p)
	p.Message += "; until then the whole Ingress is refused"
	c.out.problems = append(c.out.problems, p)
	return true
}

// rules compiles spec.rules. A rule with a wrong host is dropped with its paths; a wrong path is dropped alone, and its
// host stays named: requests to it are still nobody else's.
func (c *compiler) rules() {
	byHost := make(map[string]*hostClaims, len(c.ingress.Spec.Rules))
	for ri := range c.ingress.Spec.Rules {
		rule := &c.ingress.Spec.Rules[ri]
		if rule.Host != "" {
			if err := checkHost(rule.Host); err != nil {
				c.report(fmt.Sprintf("spec.rules[%d].host", ri), Problem{Reason: InvalidHost, Effect: RouteDropped, Message: fmt.Sprintf("%q is not a valid host: %v", rule.Host, err)})
				continue
			}
		}
		claims := byHost[rule.Host]
		if claims == nil {
			claims = &hostClaims{host: rule.Host}
			byHost[rule.Host] = claims
			c.out.hosts = append(c.out.hosts, claims)
		}
		if rule.HTTP == nil || len(rule.HTTP.Paths) == 0 {
			// The API says that the default backend gets all of the host's traffic.
			if c.ingress.Spec.DefaultBackend == nil {
				c.report(fmt.Sprintf("spec.rules[%d]", ri), Problem{Reason: NoBackend, Effect: Notice, Message: "the rule has no paths and the Ingress no defaultBackend, so nothing here answers its requests"})
			}
			continue
		}
		for pi := range rule.HTTP.Paths {
			if claim, ok := c.path(ri, pi); ok {
				claims.paths = append(claims.paths, claim)
			}
		}
	}
}

// path compiles one path; ok is false if it is dropped.
func (c *compiler) path(ri, pi int) (claim pathClaim, ok bool) {
	p := &c.ingress.Spec.Rules[ri].HTTP.Paths[pi]
	path, problem := checkPath(p)
	if problem != nil {
		c.report(pathField(ri, pi)+"."+problem.field, Problem{Reason: problem.reason, Effect: RouteDropped, Message: problem.err.Error()})
		return pathClaim{}, false
	}
	if path.literal == nil && path.canonical != path.written && len(path.canonical) < len(path.written) {
		c.report(pathField(ri, pi)+".path", Problem{Reason: PathNormalized, Effect: Notice, Message: fmt.Sprintf("%q is matched as %q", path.written, path.canonical)})
	}
	if c.out.mode == compatible && !path.own && !c.policies.settings.rules.LoosePaths && !plainPath.MatchString(path.written) {
		c.report(pathField(ri, pi)+".path", Problem{Reason: InvalidPath, Effect: RouteDropped, Message: fmt.Sprintf("%q has characters other than letters, digits and \"/._-\", which pathType %s may not have (strict-validate-path-type): write pathType ImplementationSpecific", path.written, path.typ)})
		return pathClaim{}, false
	}
	backend := c.backend(&p.Backend, func() string { return pathField(ri, pi) + ".backend" })
	return pathClaim{rule: ri, index: pi, path: path, backend: backend}, true
}

// pathField is the field of a path, as kubectl explain writes it.
func pathField(ri, pi int) string { return fmt.Sprintf("spec.rules[%d].http.paths[%d]", ri, pi) }

// backend resolves a backend; field is called only where there is something to say about it.
func (c *compiler) backend(b *networkingv1.IngressBackend, field func() string) router.Backend {
	find := func(name types.NamespacedName) *corev1.Service {
		c.out.services = append(c.out.services, name)
		return c.service(name)
	}
	backend, problem := resolveBackend(b, c.ingress.Namespace, find, c.options.AllowExternalName)
	if problem != nil {
		f := strings.TrimSuffix(field()+"."+problem.field, ".")
		c.report(f, Problem{Reason: problem.reason, Effect: RouteDenied, Message: problem.text + "; until then requests get 503"})
	}
	c.viaService(&backend, b, field)
	c.speak(&backend)
	c.tellProtocol(b, field)
	return backend
}

// tls compiles one member of spec.tls. A host that it lists stays claimed even if the Secret cannot be used, so that a
// broken Secret never hands a host to somebody else's certificate.
func (c *compiler) tls(index int) {
	t := &c.ingress.Spec.TLS[index]
	entry := &tlsEntry{index: index, secret: t.SecretName, keyPair: c.defaultPair, implied: len(t.Hosts) == 0}
	field := fmt.Sprintf("spec.tls[%d]", index)
	if t.SecretName != "" {
		entry.keyPair = c.secretPair(t.SecretName, field+".secretName")
		c.judgeTime(entry.keyPair.pair, t.SecretName, field+".secretName")
	} else if entry.keyPair.pair == nil {
		c.report(field, Problem{Reason: NoCertificate, Effect: Notice, Message: "no secretName is given and the operator gave no default certificate: clients get a self-signed one, and HTTP is not redirected"})
	}
	for hi, host := range t.Hosts {
		if err := checkHost(host); err != nil {
			c.report(fmt.Sprintf("%s.hosts[%d]", field, hi), Problem{Reason: InvalidHost, Effect: Ignored, Message: fmt.Sprintf("%q is not a valid host: %v", host, err)})
			continue
		}
		entry.hosts = append(entry.hosts, host)
		if pair := entry.keyPair.pair; pair != nil && t.SecretName != "" && !covers(pair, host) {
			c.report(fmt.Sprintf("%s.hosts[%d]", field, hi), Problem{Reason: CertificateMismatch, Effect: Notice, Message: fmt.Sprintf("the certificate in Secret %q is not for %s but for %s: clients will refuse it", t.SecretName, host, certificateNames(pair))})
		}
	}
	if entry.implied {
		c.impliedHosts(entry, field)
	}
	c.out.tls = append(c.out.tls, entry)
}

// impliedHosts finds the hosts of an entry that lists none: those of the rules that the certificate covers, or, where no
// rule names a host, those that the certificate names.
func (c *compiler) impliedHosts(entry *tlsEntry, field string) {
	pair := entry.keyPair.pair
	if entry.secret == "" {
		pair = nil // the operator's certificate is for whatever host it is needed for
	}
	for _, h := range c.out.hosts {
		if h.host != "" && (pair == nil || covers(pair, h.host)) {
			entry.hosts = append(entry.hosts, h.host)
		}
	}
	if pair == nil || len(entry.hosts) > 0 {
		return
	}
	if c.out.namesHost() {
		c.report(field, Problem{Reason: CertificateMismatch, Effect: Ignored, Message: fmt.Sprintf("the certificate in Secret %q is for %s, which is none of the rules' hosts", entry.secret, certificateNames(pair))})
		return
	}
	for _, name := range pair.Leaf.DNSNames {
		if name = strings.ToLower(name); checkHost(name) == nil {
			entry.hosts = append(entry.hosts, name)
		}
	}
}

// secretPair reads the Secret of a member of spec.tls.
func (c *compiler) secretPair(secret, field string) keyPair {
	p := Problem{Effect: Ignored}
	var pair keyPair
	if name, ok := secretName(c.ingress.Namespace, secret); !ok {
		p.Reason, p.Message = SecretForbidden, fmt.Sprintf("%q is not a name: a Secret is read from the Ingress's own namespace %q only, so copy it there; "+
			"until then the hosts are served as without it", secret, c.ingress.Namespace)
	} else {
		c.out.secrets = append(c.out.secrets, name)
		var found bool
		if pair, found = c.keyPair(name); !found {
			p.Reason, p.Message = SecretMissing, fmt.Sprintf("there is no Secret %q in namespace %q", secret, c.ingress.Namespace)
		} else if pair.err != nil {
			p.Reason, p.Message = SecretInvalid, fmt.Sprintf("Secret %q is not a certificate and its key: %v", secret, pair.err)
		}
	}
	if p.Reason != "" {
		if p.Reason != SecretForbidden {
			// tls/certs decides that, and which replica has seen a good one nobody knows here.
			p.Message += "; until then the hosts are served the last good certificate of it, as long as --keep-stale-certificate says, and as without it where there was none"
		}
		c.report(field, p)
	}
	return pair
}
