package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"podlane.dev/podlane/config"
)

// run executes one command line and returns the exit code: 2 where a report holds what it should fail on. A failure is one line on stderr.
func run(ctx context.Context, p *process, args []string) int {
	root := newRoot(p)
	if p.name == completerName {
		args = append([]string{cobra.ShellCompRequestCmd}, args...)
	}
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	// What is found is 2, and 1 is a failure; but diff has the codes of diff(1).
	found, failed := 2, 1
	if cmd.Name() == "diff" {
		found, failed = 1, 2
	}
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errFound):
		return found
	}
	fmt.Fprintln(p.stderr, root.DisplayName()+": "+oneLine(err.Error()))
	return failed
}

func newRoot(p *process) *cobra.Command {
	root := &cobra.Command{
		Use:   "podlane",
		Short: "Podlane is a Kubernetes ingress controller: requests go straight to Pods",
		Long: "Podlane is a Kubernetes ingress controller whose proxy lives in the same process as its controllers.\n" +
			"A change to an Ingress, a Service or a Pod is live in milliseconds, and no connection drops because of one.",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		// What went wrong is one line; how to use the command is what --help is for.
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       thisBuild().version,
	}
	root.SetVersionTemplate(thisBuild().String() + "\n")
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(newController(p), newServe(p), newExplain(p), newLint(p), newMigrate(p), newWait(p), newDiff(p), newVersion())
	for _, l := range listings() {
		root.AddCommand(newList(p, l))
	}
	refuseOtherShells(root)
	if p.name == pluginName || p.name == completerName {
		asPlugin(root)
	}
	return root
}

// refuseOtherShells has completion say which shells it knows, where it would print its help for one that it does not know.
func refuseOtherShells(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" {
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
			cmd.Args = func(_ *cobra.Command, args []string) error {
				if len(args) > 0 {
					return fmt.Errorf("there is no completion for %q: write bash, zsh, fish or powershell", args[0])
				}
				return nil
			}
		}
	}
}

// noArguments refuses what is neither a flag nor a flag's value.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("%s takes flags and no arguments, but there is %q", cmd.CommandPath(), args[0])
}

// flagError rewrites pflag's errors: what is wrong with the value first, in the words of the option.
func flagError(cmd *cobra.Command, err error) error {
	if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		cause := invalid.Unwrap()
		switch invalid.GetFlag().Value.Type() {
		case "bool":
			cause = fmt.Errorf("%q is not a bool: write true or false", invalid.GetValue())
		case "int":
			cause = fmt.Errorf("%q is not a whole number: write digits alone", invalid.GetValue())
		}
		return fmt.Errorf("--%s: %w", invalid.GetFlag().Name, cause)
	}
	if _, ok := errors.AsType[*pflag.NotExistError](err); ok {
		return fmt.Errorf("%w: see %s --help", err, cmd.CommandPath())
	}
	return err
}

// bind adds the options of groups to cmd, checks them before it runs, and lists them by group in its help.
func bind(cmd *cobra.Command, groups ...config.Group) {
	cmd.Flags().SortFlags = false
	sets := make([]*pflag.FlagSet, len(groups))
	for i, group := range groups {
		sets[i] = pflag.NewFlagSet(group.Title(), pflag.ContinueOnError)
		sets[i].SortFlags = false
		group.AddFlags(sets[i])
		cmd.Flags().AddFlagSet(sets[i])
	}
	cmd.Flags().SetNormalizeFunc(normalName)
	cmd.PreRunE = func(*cobra.Command, []string) error {
		for _, group := range groups {
			if err := group.Validate(); err != nil {
				return err
			}
		}
		return nil
	}
	cmd.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
		fmt.Fprint(cmd.OutOrStdout(), groupedHelp(cmd, sets))
	})
}

// normalName gives flags of ingress-nginx that mean the same under another name our name.
func normalName(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	if name == "shutdown-grace-period" {
		name = "drain-delay"
	}
	return pflag.NormalizedName(name)
}

// helpWidth is the number of columns that help is wrapped to.
const helpWidth = 110

// groupedHelp is the help of a command with many flags.
func groupedHelp(cmd *cobra.Command, sets []*pflag.FlagSet) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nUsage:\n  %s\n", cmd.Long, cmd.UseLine())
	if cmd.Example != "" {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", cmd.Example)
	}
	for _, set := range sets {
		fmt.Fprintf(&b, "\n%s:\n%s", set.Name(), set.FlagUsagesWrapped(helpWidth))
	}
	return b.String()
}

// oneLine joins the lines of a message.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
