package config

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"podlane.dev/podlane/proxy/expr"
	"podlane.dev/podlane/proxy/filters"
)

// Log are the options of what Podlane writes about itself and about requests.
type Log struct {
	// Level is debug, info, warn or error; Format json or text.
	Level, Format string
	// Access is "stdout", "stderr", "off" or the path of the access log's file.
	Access string
	// DropQuery leaves queries out of the access log.
	DropQuery bool
	// AccessFormat is "json", or a line with variables of nginx.
	AccessFormat string
}

// logJSON is the access log's own format.
const logJSON = "json"

// ControllerLog returns the defaults of `podlane controller`: for machines.
func ControllerLog() *Log {
	return &Log{Level: "info", Format: "json", Access: "stdout", AccessFormat: logJSON}
}

// ServeLog returns the defaults of `podlane serve`: for a person at a terminal.
func ServeLog() *Log {
	return &Log{Level: "warn", Format: "text", Access: "off", AccessFormat: logJSON}
}

// Title is the heading in --help.
func (*Log) Title() string { return "Logs" }

// AddFlags binds the options to fs.
func (l *Log) AddFlags(fs *pflag.FlagSet) {
	fs.Var(choice{&l.Level, []string{"debug", "info", "warn", "error"}}, "log-level", "least level of log lines on stderr")
	fs.Var(choice{&l.Format, []string{"json", "text"}}, "log-format", "form of log lines on stderr")
	fs.StringVar(&l.Access, "access-log", l.Access,
		"where each request is logged: stdout, stderr, off, or the path of a file, which SIGUSR1 opens anew")
	fs.BoolVar(&l.DropQuery, "access-log-drop-query", l.DropQuery,
		"leave the query out of logged targets and referers: secrets end up there")
	fs.StringVar(&l.AccessFormat, "access-log-format", l.AccessFormat,
		`json, or a line with nginx's variables, as in '$remote_addr "$request" $status $request_time'; log-format-upstream of the ConfigMap goes before it`)
}

// Line returns how lines of the access log are written, nil for JSON. Validate tells of what is wrong with it.
func (l *Log) Line() *filters.LogFormat {
	line, err := expr.ParseLog(l.AccessFormat)
	if l.AccessFormat == logJSON || err != nil {
		return nil
	}
	return &filters.LogFormat{Line: line, Escape: expr.EscapeLog}
}

// Validate refuses an empty path, and a format with variables that there are not or that hold secrets.
func (l *Log) Validate() error {
	if l.Access == "" {
		return errors.New("--access-log is empty: write stdout, off or the path of a file")
	}
	if l.AccessFormat == "" {
		return errors.New("--access-log-format is empty: write json, or a line such as '$remote_addr \"$request\" $status'")
	}
	if _, err := expr.ParseLog(l.AccessFormat); err != nil {
		return fmt.Errorf("--access-log-format: %w", err)
	}
	return nil
}
