package config

import (
	"errors"

	"github.com/spf13/pflag"
)

// Log are the options of what Podlane writes about itself and about requests.
type Log struct {
	// Level is debug, info, warn or error; Format json or text.
	Level, Format string
	// Access is "stdout", "stderr", "off" or the path of the access log's file.
	Access string
	// DropQuery leaves queries out of the access log.
	DropQuery bool
}

// ControllerLog returns the defaults of `podlane controller`: for machines.
func ControllerLog() *Log { return &Log{Level: "info", Format: "json", Access: "stdout"} }

// ServeLog returns the defaults of `podlane serve`: for a person at a terminal.
func ServeLog() *Log { return &Log{Level: "warn", Format: "text", Access: "off"} }

// Title is the heading in --help.
func (*Log) Title() string { return "Logs" }

// AddFlags binds the options to fs.
func (l *Log) AddFlags(fs *pflag.FlagSet) {
	fs.Var(choice{&l.Level, []string{"debug", "info", "warn", "error"}}, "log-level", "least level of log lines on stderr")
	fs.Var(choice{&l.Format, []string{"json", "text"}}, "log-format", "form of log lines on stderr")
	fs.StringVar(&l.Access, "access-log", l.Access,
		"where each request is logged as a line of JSON: stdout, stderr, off, or the path of a file, which SIGUSR1 opens anew")
	fs.BoolVar(&l.DropQuery, "access-log-drop-query", l.DropQuery,
		"leave the query out of logged targets and referers: secrets end up there")
}

// Validate refuses an empty path.
func (l *Log) Validate() error {
	if l.Access == "" {
		return errors.New("--access-log is empty: write stdout, off or the path of a file")
	}
	return nil
}
