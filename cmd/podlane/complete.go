package main

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"podlane.dev/podlane/config"
)

// completionTimeout bounds a question to the API server while a user waits at a prompt.
const completionTimeout = 3 * time.Second

// ingressNames returns the names of the Ingresses in the namespace that the flags say; none where they cannot be had: there is nobody
// to read an error.
func ingressNames(ctx context.Context, s *config.Source, scope *config.Scope) []string {
	at, err := findContext(s.Kubeconfig, s.Context)
	if err != nil {
		return nil
	}
	clients, err := kubernetes.NewForConfig(at.config)
	if err != nil {
		return nil
	}
	namespace := cmp.Or(scope.Namespace, at.namespace)
	if scope.All {
		namespace = ""
	}
	ctx, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	list, err := clients.NetworkingV1().Ingresses(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil
	}
	names := make([]string, len(list.Items))
	for i := range list.Items {
		names[i] = list.Items[i].Name
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// completeTargets completes TYPE/NAME.
func completeTargets(o *waitOptions) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		kind, _, named := strings.Cut(typed, "/")
		if !named {
			return []string{"ingress/", "service/", "secret/", "configmap/"}, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
		}
		if known, _ := kindOf(kind); known != "Ingress" {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		names := ingressNames(cmd.Context(), o.source, o.scope)
		for i := range names {
			names[i] = kind + "/" + names[i]
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeFlags completes the values of flags that have few, or are names of Ingresses.
func completeFlags(cmd *cobra.Command, s *config.Source, scope *config.Scope) {
	fixed := map[string][]string{"output": {config.OutputTable, config.OutputJSON}, "for": {forApplied, forDeleted}}
	for name, values := range fixed {
		if cmd.Flags().Lookup(name) != nil {
			mustRegister(cmd, name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
		}
	}
	if cmd.Flags().Lookup("ingress") != nil {
		mustRegister(cmd, "ingress", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			return ingressNames(cmd.Context(), s, scope), cobra.ShellCompDirectiveNoFileComp
		})
	}
}

// mustRegister panics where there is no such flag, or it has a completion: the callers' mistake, which every test of a command finds.
func mustRegister(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err)
	}
}
