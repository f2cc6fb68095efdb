package main

import (
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"podlane.dev/podlane/router/ingress"
)

// settingsProblems returns a Problem for each key of the ConfigMap with settings: none has a meaning yet, and what is
// ignored is never ignored in silence.
func settingsProblems(s ingress.Snapshot, name types.NamespacedName) []ingress.Problem {
	var problems []ingress.Problem
	for _, c := range s.ConfigMaps {
		if c.Namespace != name.Namespace || c.Name != name.Name {
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(c.Data)) {
			problems = append(problems, ingress.Problem{
				Object: ingress.Object{Kind: "ConfigMap", Namespace: c.Namespace, Name: c.Name, UID: string(c.UID)},
				Field:  "data." + key, Reason: ingress.InvalidOption, Effect: ingress.Ignored,
				Message: fmt.Sprintf("%s has no effect: settings are given by flags; see podlane controller --help", key),
			})
		}
	}
	return problems
}
