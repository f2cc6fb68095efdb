package config

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"

	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/router/policy"
)

// The names that Podlane goes by.
const (
	// ControllerClass is the spec.controller of Podlane's IngressClasses.
	ControllerClass = "podlane.dev/ingress-controller"
	// IngressClass is the name of Podlane's IngressClass.
	IngressClass = "podlane"
	// AnnotationPrefix is Podlane's own annotation prefix; CompatPrefix is ingress-nginx's. They are equal, and
	// Podlane's own wins where both are set.
	AnnotationPrefix = "podlane.dev"
	CompatPrefix     = "nginx.ingress.kubernetes.io"
)

// Ingress are the options that change which Ingresses are taken and what they mean.
type Ingress struct {
	// Class is the IngressClass's name; ControllerClass its spec.controller.
	Class, ControllerClass string
	ClassByName            bool
	// ClaimNginx takes the Ingresses of ingress-nginx's classes too, Compat says which are read as ingress-nginx reads them.
	ClaimNginx bool
	Compat     string
	// ConfigMap is namespace/name of the ConfigMap with settings, or "".
	ConfigMap    string
	WithoutClass bool
	// DefaultBackend and DefaultCertificate are namespace/name of a Service and a Secret, or "".
	DefaultBackend, DefaultCertificate string
	// TicketKeySecret is namespace/name of the Secret with the keys of session tickets, or "".
	TicketKeySecret   string
	AllowExternalName bool
	// ExternalDeny and ExternalAllow are ranges that ExternalName Services may not or may after all lead to.
	ExternalDeny, ExternalAllow Prefixes
	// Passthrough lets Ingresses pass TLS through to their Pods.
	Passthrough bool
	// AnnotationsPrefix is one more prefix beside AnnotationPrefix and CompatPrefix, or "".
	AnnotationsPrefix string

	// everyClass takes every Ingress until a class is asked for.
	everyClass bool
}

// ControllerIngress returns the defaults of `podlane controller`.
func ControllerIngress() *Ingress {
	return &Ingress{Class: IngressClass, ControllerClass: ControllerClass, Compat: compatByClass}
}

// ServeIngress returns the defaults of `podlane serve`: every Ingress is taken unless a class is given.
// Names may lead to this machine then, where the Pods are processes.
func ServeIngress() *Ingress {
	return &Ingress{
		ControllerClass: ControllerClass, everyClass: true, Compat: compatByClass,
		ExternalAllow: Prefixes{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
	}
}

// MigrateIngress returns the defaults of `podlane migrate`: the Ingresses of ingress-nginx, read as it reads them.
func MigrateIngress() *Ingress {
	return &Ingress{Class: "nginx", ControllerClass: ingress.NginxClass, Compat: string(ingress.CompatNginx)}
}

// TakeEvery takes every Ingress, whatever its class, unless a class was asked for: a folder of manifests seldom has classes.
func (o *Ingress) TakeEvery() { o.Class, o.everyClass = "", true }

// Title is the heading in --help.
func (*Ingress) Title() string { return "Ingresses" }

// AddFlags binds the options to fs.
func (o *Ingress) AddFlags(fs *pflag.FlagSet) {
	class := "name of the IngressClass to serve, also in the old annotation kubernetes.io/ingress.class"
	if o.everyClass {
		class += "; without it every Ingress is served"
	}
	fs.StringVar(&o.Class, "ingress-class", o.Class, class)
	fs.StringVar(&o.ControllerClass, "controller-class", o.ControllerClass, "spec.controller of the IngressClasses to serve")
	fs.BoolVar(&o.ClassByName, "ingress-class-by-name", o.ClassByName,
		"serve the IngressClass named by --ingress-class whatever its spec.controller")
	fs.BoolVar(&o.ClaimNginx, "claim-ingress-nginx", o.ClaimNginx,
		"serve the IngressClasses of ingress-nginx too: those whose spec.controller is "+ingress.NginxClass)
	fs.StringVar(&o.Compat, "compat", o.Compat,
		"which Ingresses are read as ingress-nginx reads them: class (those of its classes), ingress-nginx (all) or off (none)")
	fs.StringVar(&o.ConfigMap, "configmap", o.ConfigMap,
		"ConfigMap, as namespace/name, with settings for all Ingresses, in the keys of ingress-nginx's; it is read live")
	fs.BoolVar(&o.WithoutClass, "watch-ingress-without-class", o.WithoutClass, "serve Ingresses that name no class as well")
	fs.StringVar(&o.DefaultBackend, "default-backend-service", o.DefaultBackend,
		"Service, as namespace/name, whose first port answers requests without a route; without it they get 404")
	fs.StringVar(&o.DefaultCertificate, "default-ssl-certificate", o.DefaultCertificate,
		"Secret, as namespace/name, with the certificate for server names that no Ingress lists; without it a self-signed one")
	fs.StringVar(&o.TicketKeySecret, "ssl-session-ticket-key-secret", o.TicketKeySecret,
		"Secret, as namespace/name, with keys of session tickets, so that a session goes on at every replica; the first by name encrypts, all decrypt")
	fs.BoolVar(&o.AllowExternalName, "allow-external-name", o.AllowExternalName,
		"let Services of type ExternalName be backends; whoever may write one can then reach any host that Podlane can")
	fs.Var(&o.ExternalDeny, "external-name-deny",
		"address ranges that Services of type ExternalName may not lead to, beside link-local, loopback and this machine's own, and the API server")
	fs.Var(&o.ExternalAllow, "external-name-allow", "address ranges that they may lead to after all")
	fs.BoolVar(&o.Passthrough, "enable-ssl-passthrough", o.Passthrough,
		"let Ingresses pass TLS for their hosts through to their Pods by the annotation ssl-passthrough")
	fs.StringVar(&o.AnnotationsPrefix, "annotations-prefix", o.AnnotationsPrefix,
		"one more annotation prefix, beside "+AnnotationPrefix+" and "+CompatPrefix)
}

// Validate checks names.
func (o *Ingress) Validate() error {
	return first(
		o.checkClass(),
		o.checkCompat(),
		objectName("configmap", o.ConfigMap),
		objectName("default-backend-service", o.DefaultBackend),
		objectName("default-ssl-certificate", o.DefaultCertificate),
		objectName("ssl-session-ticket-key-secret", o.TicketKeySecret),
		o.checkPrefix(),
	)
}

func (o *Ingress) checkClass() error {
	if o.ControllerClass == "" || len(validation.IsDomainPrefixedPath(nil, o.ControllerClass)) > 0 {
		return fmt.Errorf("--controller-class: %q is not domain/name: write %s", o.ControllerClass, ControllerClass)
	}
	if o.Class == "" {
		if o.everyClass && !o.ClassByName {
			return nil
		}
		return fmt.Errorf("--ingress-class is empty: write %s", IngressClass)
	}
	return subdomain("ingress-class", o.Class, IngressClass)
}

// compatByClass is the word for ingress.CompatByClass.
const compatByClass = "class"

func (o *Ingress) checkCompat() error {
	switch o.Compat {
	case compatByClass, string(ingress.CompatNginx), string(ingress.CompatOff):
		return nil
	}
	return fmt.Errorf("--compat: %q is not known: write %s, %s or %s", o.Compat, compatByClass, ingress.CompatNginx, ingress.CompatOff)
}

func (o *Ingress) checkPrefix() error {
	if o.AnnotationsPrefix == "" {
		return nil
	}
	if trimmed, ok := strings.CutSuffix(o.AnnotationsPrefix, "/"); ok {
		return fmt.Errorf("--annotations-prefix: %q ends in \"/\": write %s", o.AnnotationsPrefix, trimmed)
	}
	return subdomain("annotations-prefix", o.AnnotationsPrefix, "ingress.example.com")
}

// Families returns the annotation families as Build takes them: what the options turn off no annotation turns on.
func (o *Ingress) Families() []policy.Family {
	policies := Policies()
	if !o.Passthrough {
		policies = filters.WithoutSSLPassthrough(policies)
	}
	return filters.Families(policies)
}

// Options returns the options as Build takes them.
func (o *Ingress) Options() ingress.Options {
	prefixes := []string{CompatPrefix}
	if p := o.AnnotationsPrefix; p != "" && p != AnnotationPrefix && p != CompatPrefix {
		prefixes = append(prefixes, p)
	}
	compat := ingress.Compat(o.Compat)
	if o.Compat == compatByClass {
		compat = ingress.CompatByClass
	}
	return ingress.Options{
		ClaimNginx:         o.ClaimNginx,
		Compat:             compat,
		Settings:           o.ConfigMap,
		ControllerClass:    o.ControllerClass,
		IngressClass:       o.Class,
		IngressClassByName: o.ClassByName,
		WithoutClass:       o.WithoutClass,
		EveryClass:         o.everyClass && o.Class == "",
		DefaultBackend:     o.DefaultBackend,
		DefaultCertificate: o.DefaultCertificate,
		TicketKeys:         o.TicketKeySecret,
		AllowExternalName:  o.AllowExternalName,
		References:         ingress.ReferencesOf(o.Families()),
		AnnotationPrefixes: append(prefixes, AnnotationPrefix),
	}
}
