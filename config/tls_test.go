package config_test

import (
	"crypto/tls"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"podlane.dev/podlane/config"
)

// TestLegacyProtocols: SECURITY.md promises TLS 1.2 or later unless somebody asks for less in so many words.
func TestLegacyProtocols(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want uint16 // 0: refused
	}{
		{nil, tls.VersionTLS12},
		{[]string{"--ssl-protocols=TLSv1.3"}, tls.VersionTLS13},
		{[]string{"--ssl-protocols=TLSv1.1 TLSv1.2 TLSv1.3"}, 0},
		{[]string{"--ssl-protocols=TLSv1"}, 0},
		{[]string{"--ssl-protocols=TLSv1.1,TLSv1.2", "--ssl-allow-legacy-protocols"}, tls.VersionTLS11},
		{[]string{"--ssl-allow-legacy-protocols"}, tls.VersionTLS12},
	} {
		group := config.NewTLS()
		err := parse(group, tc.args...)
		if tc.want == 0 {
			if err == nil || !strings.Contains(err.Error(), "--ssl-protocols") || !strings.Contains(err.Error(), "write \"TLSv1.2 TLSv1.3\", or --ssl-allow-legacy-protocols") {
				t.Errorf("%q: error %v", tc.args, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", tc.args, err)
			continue
		}
		if o, err := group.Server(); err != nil || o.MinVersion != tc.want {
			t.Errorf("%q: lowest version %s, %v", tc.args, tls.VersionName(o.MinVersion), err)
		}
	}
}

func TestTicketKeyFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	one, two := strings.Repeat("a", 80), strings.Repeat("b", 48)
	raw, lines := write("raw", one), write("lines", base64.StdEncoding.EncodeToString([]byte(two))+"\n")
	bad := write("bad", "secret-but-too-short")
	for args, want := range map[string]int{"": 0, raw: 1, raw + "," + lines: 2, lines + ", " + raw + "," + lines: 2} {
		group := config.NewTLS()
		if err := parse(group, "--ssl-session-ticket-key-file="+args); err != nil {
			t.Errorf("%q: %v", args, err)
			continue
		}
		o, err := group.Server()
		if err != nil || (o.TicketKeys == nil) != (want == 0) || want > 0 && len(o.TicketKeys.Keys()) != want {
			t.Errorf("%q: keys %v, %v", args, o.TicketKeys, err)
		}
	}
	for _, args := range [][]string{
		{"--ssl-session-ticket-key-file=" + filepath.Join(dir, "gone")},
		{"--ssl-session-ticket-key-file=" + bad},
		{"--ssl-session-ticket-key-file=" + raw + "," + bad},
		{"--ssl-session-ticket-key-file=" + raw, "--ssl-session-tickets=false"},
	} {
		err := parse(config.NewTLS(), args...)
		if err == nil || !strings.Contains(err.Error(), "--ssl-session-ticket-key-file") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: error %v", args, err)
		}
	}
}
