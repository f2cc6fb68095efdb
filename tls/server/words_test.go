package server_test

import (
	"crypto/tls"
	"slices"
	"strings"
	"testing"

	"podlane.dev/podlane/tls/certs"
	"podlane.dev/podlane/tls/server"
)

func TestParseVersions(t *testing.T) {
	const v10, v11, v12, v13 = tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13
	for _, c := range []struct {
		text            string
		lowest, highest uint16
		problem         string // part of the error
	}{
		{"TLSv1.2 TLSv1.3", v12, v13, ""},
		{"TLSv1.3 TLSv1.2", v12, v13, ""},
		{" TLSv1.3\t", v13, v13, ""},
		{"tlsv1.2,TLSV1.3", v12, v13, ""},
		{"TLSv1 TLSv1.1 TLSv1.2 TLSv1.3", v10, v13, ""},
		{"TLSv1.2 tlsv1.2", v12, v12, ""},
		{"", 0, 0, ""},
		{"  ", 0, 0, ""},
		{"TLSv1.1 TLSv1.3", 0, 0, "TLS 1.2 is missing"},
		{"SSLv3 TLSv1.2", 0, 0, `"SSLv3"`},
		{"TLS1.2", 0, 0, `"TLS1.2"`},
		{"TLSv1.2;TLSv1.3", 0, 0, `"TLSv1.2;TLSv1.3"`},
	} {
		lowest, highest, err := server.ParseVersions(c.text)
		if lowest != c.lowest || highest != c.highest || (err == nil) != (c.problem == "") || err != nil && !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%q: got %x, %x, %v", c.text, lowest, highest, err)
		}
	}
}

func TestParseCurves(t *testing.T) {
	for _, c := range []struct {
		text    string
		want    []tls.CurveID
		unknown []string
		fails   bool
	}{
		{"auto", nil, nil, false},
		{"", nil, nil, false},
		{"X25519:prime256v1:secp384r1", []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384}, nil, false},
		{"P-256 P-521", []tls.CurveID{tls.CurveP256, tls.CurveP521}, nil, false},
		{"X25519MLKEM768:SecP256r1MLKEM768:SecP384r1MLKEM1024:x25519", []tls.CurveID{tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024, tls.X25519}, nil, false},
		{"P-256:secp256r1:CurveP256", []tls.CurveID{tls.CurveP256}, nil, false},
		{"X448:X25519", []tls.CurveID{tls.X25519}, []string{"X448"}, false},
		{"X448", nil, []string{"X448"}, true},
	} {
		got, err := server.ParseCurves(c.text)
		if !slices.Equal(got.Values, c.want) || !slices.Equal(got.Unknown, c.unknown) || (err != nil) != c.fails {
			t.Errorf("%q: got %v, unknown %q, error %v", c.text, got.Values, got.Unknown, err)
		}
	}
}

// The default of ingress-nginx 1.14's ssl-ciphers.
const ingressNginxCiphers = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"

func TestParseCipherSuites(t *testing.T) {
	const (
		ecGCM128  = tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
		rsaGCM128 = tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
		ecGCM256  = tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
		rsaGCM256 = tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
		rsaCBC128 = tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA
		kexGCM128 = tls.TLS_RSA_WITH_AES_128_GCM_SHA256
	)
	for _, c := range []struct {
		text    string
		want    []uint16
		unknown string
		fails   bool
	}{
		{"", nil, "", false},
		{ingressNginxCiphers, server.DefaultCipherSuites(), "", false},
		{"HIGH:!aNULL:!MD5", server.DefaultCipherSuites(), "", false}, // nginx's own default
		{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", []uint16{rsaGCM128}, "", false},
		{"ecdhe-rsa-aes128-gcm-sha256, tls_ecdhe_rsa_with_aes_128_gcm_sha256", []uint16{rsaGCM128}, "", false},
		{"ECDHE-RSA-AES128-SHA:AES128-GCM-SHA256", []uint16{rsaCBC128, kexGCM128}, "", false},
		{"AES128-SHA256", []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA256}, "", false},
		{"ECDHE-ECDSA-AES128-SHA256", []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256}, "", false},
		{"AES256-SHA", []uint16{tls.TLS_RSA_WITH_AES_256_CBC_SHA}, "", false},
		{"EECDH+AESGCM:EDH+AESGCM", []uint16{rsaGCM128, rsaGCM256, ecGCM128, ecGCM256}, "EDH+AESGCM", false},
		{"ECDHE+AESGCM:!ECDSA", []uint16{rsaGCM128, rsaGCM256}, "", false},
		{"!ECDSA:ECDHE+AESGCM", []uint16{rsaGCM128, rsaGCM256}, "", false},
		{"ECDHE+AESGCM:-ECDSA:ECDHE-ECDSA-AES128-GCM-SHA256", []uint16{rsaGCM128, rsaGCM256, ecGCM128}, "", false},
		{"ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES128-GCM-SHA256:NONSENSE", []uint16{rsaGCM128}, "DHE-RSA-AES128-GCM-SHA256 NONSENSE", false},
		{"ECDHE-RSA-AES128-GCM-SHA256:!NONSENSE:-:!:@SECLEVEL=0:@STRENGTH:+AES256", []uint16{rsaGCM128}, "!NONSENSE - !", false},
		{"TLS_AES_128_GCM_SHA256:ECDHE-RSA-AES128-GCM-SHA256", []uint16{rsaGCM128}, "", false},
		{"TLS_AES_128_GCM_SHA256", nil, "", true},
		{"ECDHE-RSA-RC4-SHA:ECDHE-RSA-DES-CBC3-SHA", nil, "ECDHE-RSA-RC4-SHA ECDHE-RSA-DES-CBC3-SHA", true},
		{"TLS_RSA_WITH_RC4_128_SHA", nil, "TLS_RSA_WITH_RC4_128_SHA", true},
		{"RC4", nil, "RC4", true},
		{"HIGH:!ECDHE", nil, "", true},
		{"NONSENSE", nil, "NONSENSE", true},
	} {
		got, err := server.ParseCipherSuites(c.text)
		want := slices.Clone(c.want)
		slices.Sort(want)
		slices.Sort(got.Values)
		if !slices.Equal(got.Values, want) || strings.Join(got.Unknown, " ") != c.unknown || (err != nil) != c.fails {
			t.Errorf("%q: got %v, unknown %q, error %v", c.text, suiteNames(got.Values), got.Unknown, err)
		}
	}
}

func suiteNames(ids []uint16) []string {
	var names []string
	for _, id := range ids {
		names = append(names, tls.CipherSuiteName(id))
	}
	return names
}

func FuzzParseWords(f *testing.F) {
	for _, text := range []string{"", ingressNginxCiphers, "HIGH:!aNULL:!MD5", "X25519:P-256", "TLSv1.2 TLSv1.3", "EECDH+AESGCM:-+:!:@", "auto", "\xff:+\x00"} {
		f.Add(text)
	}
	store, err := certs.NewStore(certs.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		lowest, highest, versionErr := server.ParseVersions(text)
		suites, suiteErr := server.ParseCipherSuites(text)
		curves, curveErr := server.ParseCurves(text)
		// What is understood can be used, and a report names words of the text.
		for story, o := range map[string]server.Options{
			"versions": {MinVersion: lowest, MaxVersion: highest},
			"suites":   {CipherSuites: suites.Values},
			"curves":   {Curves: curves.Values},
		} {
			failed := map[string]error{"versions": versionErr, "suites": suiteErr, "curves": curveErr}[story]
			if _, err := server.NewConfig(store, o); err != nil && failed == nil && highest == 0 {
				t.Errorf("%s of %q: %v", story, text, err)
			}
		}
		for _, word := range append(suites.Unknown, curves.Unknown...) {
			if word == "" || !strings.Contains(text, word) {
				t.Errorf("%q: reported %q", text, word)
			}
		}
		for _, name := range suiteNames(suites.Values) {
			if strings.Contains(name, "RC4") || strings.Contains(name, "3DES") {
				t.Errorf("%q: offers %s", text, name)
			}
		}
	})
}
