package config_test

import (
	"testing"

	"podlane.dev/podlane/config"
)

// JSON is the usual format; any other text is a line with nginx's variables.
func TestAccessLogFormat(t *testing.T) {
	l := config.ServeLog()
	if f := l.Line(); f != nil {
		t.Errorf("json is %v", f)
	}
	l.AccessFormat = `$remote_addr "$request"`
	if err := l.Validate(); err != nil {
		t.Fatal(err)
	}
	if f := l.Line(); f == nil || f.Line.String() != l.AccessFormat {
		t.Errorf("%q became %v", l.AccessFormat, f)
	}
}
