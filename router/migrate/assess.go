package migrate

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/router/policy"
)

// assessor judges objects.
type assessor struct {
	keys     keys
	options  Options
	prefixes []string
	byObject map[ingress.Object][]ingress.Problem
	totals   Totals
}

// keys are the keys of all families by what users write.
type keys struct{ annotations, settings map[string]*policy.Key }

func indexKeys(families []policy.Family) keys {
	k := keys{make(map[string]*policy.Key), make(map[string]*policy.Key)}
	for _, f := range families {
		list := f.FamilyKeys()
		for i := range list {
			key := &list[i]
			if key.InAnnotations() {
				k.annotations[key.Name] = key
				if key.Alias != "" {
					k.annotations[key.Alias] = key
				}
			}
			if key.InConfigMap() {
				k.settings[key.SettingName()] = key
			}
		}
	}
	return k
}

// ingress judges an Ingress: each of its annotations by what Build says of it, else by what the family says of itself; then the rest of Build's
// Problems.
func (a *assessor) ingress(i *networkingv1.Ingress) Item {
	object := ingress.Object{Kind: "Ingress", Namespace: i.Namespace, Name: i.Name}
	item := Item{Kind: object.Kind, Namespace: i.Namespace, Name: i.Name}
	rest := a.byObject[object]
	for _, annotation := range slices.Sorted(maps.Keys(i.Annotations)) {
		name, ours := a.cut(annotation)
		if !ours {
			continue
		}
		item.Keys++
		notes, left := a.key(name, a.keys.annotations[name], "metadata.annotations["+annotation+"]", rest)
		rest = left
		for n := range notes {
			notes[n].Instead, notes[n].Left = translate(annotation, i.Annotations[annotation])
		}
		item.Notes = append(item.Notes, notes...)
	}
	for _, p := range rest {
		item.Notes = append(item.Notes, a.note(p))
	}
	return item
}

// settings judges the operator's ConfigMap.
func (a *assessor) settings(c *corev1.ConfigMap) Item {
	object := ingress.Object{Kind: "ConfigMap", Namespace: c.Namespace, Name: c.Name}
	item := Item{Kind: object.Kind, Namespace: c.Namespace, Name: c.Name}
	rest := a.byObject[object]
	for _, name := range slices.Sorted(maps.Keys(c.Data)) {
		item.Keys++
		notes, left := a.key(name, a.keys.settings[name], "data."+name, rest)
		rest = left
		item.Notes = append(item.Notes, notes...)
	}
	for _, p := range rest {
		item.Notes = append(item.Notes, a.note(p))
	}
	return item
}

// cut returns an annotation's name without prefix.
func (a *assessor) cut(annotation string) (string, bool) {
	for _, prefix := range a.prefixes {
		if name, ok := strings.CutPrefix(annotation, prefix+"/"); ok {
			return name, true
		}
	}
	return "", false
}

// key returns what there is to say about one key, and the Problems that are not about it. The worst counts for the totals.
func (a *assessor) key(name string, key *policy.Key, field string, problems []ingress.Problem) (notes []Note, rest []ingress.Problem) {
	for _, p := range problems {
		if p.Field == field {
			notes = append(notes, a.note(p))
		} else {
			rest = append(rest, p)
		}
	}
	if len(notes) == 0 && key != nil && key.Differs != "" {
		notes = append(notes, Note{Verdict: Differs, Field: field, Text: name + ": " + key.Differs})
	}
	worst := Same
	for _, n := range notes {
		worst = max(worst, n.Verdict)
	}
	a.totals.add(worst)
	return notes, rest
}

// note judges a Problem of Build.
func (a *assessor) note(p ingress.Problem) Note {
	n := Note{Field: p.Field, Text: p.Message, Source: p.Source}
	switch p.Effect {
	case ingress.RouteDenied, ingress.RouteDropped:
		n.Verdict = Refused
	case ingress.Ignored:
		// ingress-nginx too ignores what does not parse, and drops what is somebody else's.
		n.Verdict = Differs
		if p.Reason == ingress.RefusedAnnotation || p.Reason == ingress.RefusedSetting || p.Reason == ingress.UnsupportedAnnotation || p.Reason == ingress.UnsupportedSetting {
			n.Verdict = Refused
		}
	case ingress.Notice:
	}
	if a.options.Partial && Missing(p.Reason) {
		n.Verdict, n.Text = Same, p.Message+" (not among the objects that were read)"
	}
	return n
}

// Missing says whether a reason is that another object is not there.
func Missing(r ingress.Reason) bool {
	switch r {
	case ingress.ServiceMissing, ingress.SecretMissing, ingress.ConfigMapMissing, ingress.ClassNotFound:
		return true
	}
	return false
}
