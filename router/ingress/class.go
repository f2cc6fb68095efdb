package ingress

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
)

// classAnnotation is how Ingresses named their class before spec.ingressClassName.
const classAnnotation = "kubernetes.io/ingress.class"

// Ownership says which Ingresses are ours, and how they are read. It is immutable and safe for concurrent use.
//
// An Ingress is ours if the annotation kubernetes.io/ingress.class has Options.IngressClass, or names a class of ingress-nginx's with ClaimNginx. The annotation comes before
// spec.ingressClassName, as the Ingress API has it for compatibility; an empty one names no class. Without it, the Ingress
// is ours if spec.ingressClassName names a class of Options.ControllerClass, or, with IngressClassByName, is
// IngressClass itself. If neither names a class, it is ours with WithoutClass, or if the default class is ours: of
// several default classes the newest one, as in the API server. EveryClass makes every Ingress ours.
type Ownership struct {
	options Options
	// ours holds the names of classes, true for ours; nginx those that are ingress-nginx's.
	ours, nginx  map[string]bool
	defaultOur   bool
	defaultNginx bool
}

// NewOwnership returns the Ownership under classes and options. It keeps neither the slice nor its objects.
func NewOwnership(classes []*networkingv1.IngressClass, options Options) *Ownership {
	w := &Ownership{options: options, ours: make(map[string]bool, len(classes)), nginx: make(map[string]bool)}
	var defaultClass *networkingv1.IngressClass
	for _, c := range classes {
		if c == nil {
			continue
		}
		nginx := c.Spec.Controller == NginxClass
		w.nginx[c.Name] = w.nginx[c.Name] || nginx
		w.ours[c.Name] = w.ours[c.Name] || c.Spec.Controller == options.ControllerClass || nginx && options.ClaimNginx
		if c.Annotations[networkingv1.AnnotationIsDefaultIngressClass] == "true" && (defaultClass == nil || newerClass(c, defaultClass)) {
			defaultClass = c
		}
	}
	w.defaultOur = defaultClass != nil && w.ownsClass(defaultClass.Name)
	w.defaultNginx = defaultClass != nil && w.nginx[defaultClass.Name]
	return w
}

// newerClass says whether a comes before b where both are the default class.
func newerClass(a, b *networkingv1.IngressClass) bool {
	return cmp.Or(b.CreationTimestamp.Compare(a.CreationTimestamp.Time), strings.Compare(a.Name, b.Name)) < 0
}

// ownsClass says whether the class of that name is ours. With IngressClassByName there need not be such an object: a
// controller that may not read classes still knows its own name.
func (w *Ownership) ownsClass(name string) bool {
	return w.ours[name] || w.options.IngressClassByName && name == w.options.IngressClass
}

// Owns says whether i is ours.
func (w *Ownership) Owns(i *networkingv1.Ingress) bool {
	switch annotation, name := i.Annotations[classAnnotation], i.Spec.IngressClassName; {
	case w.options.EveryClass:
		return true
	case annotation != "":
		return annotation == w.options.IngressClass || w.claims(annotation)
	case name != nil:
		return w.ownsClass(*name)
	}
	return w.options.WithoutClass || w.defaultOur
}

// claims says whether the old annotation's value is a class of ingress-nginx's that is ours: one that there is, or "nginx", which ingress-nginx took
// before there were IngressClasses, and takes without one.
func (w *Ownership) claims(annotation string) bool {
	_, exists := w.ours[annotation]
	return w.options.ClaimNginx && (w.nginx[annotation] || annotation == nginxClassName && !exists)
}

// nginxClassName is what ingress-nginx's class is called unless somebody says otherwise.
const nginxClassName = "nginx"

// mode returns how i, which is ours, is read.
func (w *Ownership) mode(i *networkingv1.Ingress) mode {
	nginx := w.defaultNginx
	switch annotation, name := i.Annotations[classAnnotation], i.Spec.IngressClassName; {
	case w.options.Compat == CompatOff:
		return strict
	case w.options.Compat == CompatNginx:
		return compatible
	case annotation != "":
		nginx = w.nginx[annotation] || w.claims(annotation)
	case name != nil:
		nginx = w.nginx[*name]
	}
	if nginx {
		return compatible
	}
	return strict
}

// problems returns what the owner of i should know about its class. i is ours. That no IngressClass has the name that i
// gives is worth a word only where every Ingress is taken and there are classes to compare with: elsewhere the Ingress is
// not ours to speak about.
func (w *Ownership) problems(i *networkingv1.Ingress) []Problem {
	if i.Spec.IngressClassName == nil {
		return nil
	}
	p := Problem{Object: objectOf(i), Field: "spec.ingressClassName", Effect: Notice}
	name, annotation := *i.Spec.IngressClassName, i.Annotations[classAnnotation]
	_, known := w.ours[name]
	switch {
	case w.options.EveryClass && !known && len(w.ours) > 0 && !w.options.SomeClasses:
		p.Reason = ClassNotFound
		p.Message = fmt.Sprintf("there is no IngressClass %q: in a cluster no controller would serve this Ingress", name)
	case !w.options.EveryClass && annotation != "" && !w.ownsClass(name):
		p.Reason = ClassConflict
		p.Message = fmt.Sprintf("the annotation %s gives this Ingress to class %q, the field to class %q: remove one of them, or two controllers will serve it", classAnnotation, annotation, name)
	default:
		return nil
	}
	return []Problem{p}
}

// orphan returns what the owner of i, which is not ours, should know about its class: that there is none of that name, so that nobody
// serves it. An Ingress of a class that exists is another controller's, and nothing to speak about.
func (w *Ownership) orphan(i *networkingv1.Ingress) []Problem {
	if i.Spec.IngressClassName == nil || len(w.ours) == 0 || w.options.SomeClasses {
		return nil
	}
	name := *i.Spec.IngressClassName
	if _, known := w.ours[name]; known {
		return nil
	}
	return []Problem{{
		Object: objectOf(i), Field: "spec.ingressClassName", Reason: ClassNotFound, Effect: RouteDropped,
		Message: fmt.Sprintf("there is no IngressClass %q, so no controller serves this Ingress: write one that kubectl get ingressclass lists", name),
	}}
}

// Owned returns the Ingresses of s that are ours, sorted by namespace and name.
func Owned(s Snapshot) []*networkingv1.Ingress {
	ownership := NewOwnership(s.Classes, s.Options)
	var owned []*networkingv1.Ingress
	for _, i := range s.Ingresses {
		if i != nil && ownership.Owns(i) {
			owned = append(owned, i)
		}
	}
	slices.SortFunc(owned, func(a, b *networkingv1.Ingress) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return owned
}

// compareNames sorts by namespace, then name.
func compareNames(a, b types.NamespacedName) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

// splitName parses namespace/name.
func splitName(s string) (types.NamespacedName, bool) {
	namespace, name, ok := strings.Cut(s, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return types.NamespacedName{}, false
	}
	return types.NamespacedName{Namespace: namespace, Name: name}, true
}

// objectOf names an Ingress for a Problem.
func objectOf(i *networkingv1.Ingress) Object {
	return Object{Kind: "Ingress", Namespace: i.Namespace, Name: i.Name, UID: string(i.UID)}
}
