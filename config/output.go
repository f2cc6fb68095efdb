package config

import (
	"fmt"

	"github.com/spf13/pflag"
)

// The forms of output.
const (
	OutputText  = "text"
	OutputTable = "table"
	OutputJSON  = "json"
)

// Output are the options of commands that print a report.
type Output struct {
	// Form is OutputJSON, or the form for people: OutputText or OutputTable.
	Form string
	// people is the form for people.
	people string
}

// NewOutput returns the defaults of commands that print text. They take OutputTable for it too: who knows the others writes that.
func NewOutput() *Output { return &Output{Form: OutputText, people: OutputText} }

// TableOutput returns the defaults of commands that print a table.
func TableOutput() *Output { return &Output{Form: OutputTable, people: OutputTable} }

// Title is the heading in --help.
func (*Output) Title() string { return "Output" }

// AddFlags binds the options to fs.
func (o *Output) AddFlags(fs *pflag.FlagSet) {
	fs.StringVarP(&o.Form, "output", "o", o.Form, "form of the report: "+o.people+" or json")
}

// Validate checks the form.
func (o *Output) Validate() error {
	if o.Form == OutputTable {
		o.Form = o.people
	}
	if o.Form != o.people && o.Form != OutputJSON {
		return fmt.Errorf("--output: %q is not known: write %s or %s", o.Form, o.people, OutputJSON)
	}
	return nil
}
