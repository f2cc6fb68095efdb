// Package config owns every option of Podlane: its flag, type, default, documentation and validation, in one small struct
// for each part of the program, and the ordered list of annotation families. It must not start, open or read anything:
// cmd/podlane turns these values into objects.
//
// A struct is filled with its defaults by its constructor, bound to flags by AddFlags, and checked by Validate, whose error
// is one line that names the flag and says what to write.
package config

import "github.com/spf13/pflag"

// Group is one struct of options.
type Group interface {
	// Title is the heading under which --help lists the options.
	Title() string
	// AddFlags binds the options to fs, with the current values as defaults.
	AddFlags(fs *pflag.FlagSet)
	// Validate returns the first mistake in the values, or nil.
	Validate() error
}
