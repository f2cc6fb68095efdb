package config

import (
	"fmt"

	"github.com/spf13/pflag"
)

// The forms of output.
const (
	OutputText = "text"
	OutputJSON = "json"
)

// Output are the options of commands that print a report.
type Output struct {
	// Form is OutputText or OutputJSON.
	Form string
}

// NewOutput returns the defaults.
func NewOutput() *Output { return &Output{Form: OutputText} }

// Title is the heading in --help.
func (*Output) Title() string { return "Output" }

// AddFlags binds the options to fs.
func (o *Output) AddFlags(fs *pflag.FlagSet) {
	fs.StringVarP(&o.Form, "output", "o", o.Form, "form of the report: text or json")
}

// Validate checks the form.
func (o *Output) Validate() error {
	if o.Form != OutputText && o.Form != OutputJSON {
		return fmt.Errorf("--output: %q is not known: write %s or %s", o.Form, OutputText, OutputJSON)
	}
	return nil
}
