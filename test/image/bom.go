package image

import (
	"bytes"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"strings"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// A bom is a bill of materials: CycloneDX 1.6, as far as it is used here. https://cyclonedx.org/docs/1.6/json/
type bom struct {
	Schema       string       `json:"$schema"`
	Format       string       `json:"bomFormat"`
	SpecVersion  string       `json:"specVersion"`
	Version      int          `json:"version"`
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Timestamp string    `json:"timestamp"`
	Component component `json:"component"`
}

type component struct {
	Type       string     `json:"type"`
	Ref        string     `json:"bom-ref"`
	Name       string     `json:"name"`
	Version    string     `json:"version,omitempty"`
	Scope      string     `json:"scope,omitempty"`
	Hashes     []hash     `json:"hashes,omitempty"`
	Licenses   []license  `json:"licenses,omitempty"`
	PURL       string     `json:"purl,omitempty"`
	Properties []property `json:"properties,omitempty"`
}

type hash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

type license struct {
	License struct {
		ID string `json:"id"`
	} `json:"license"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn,omitempty"`
}

// billOfMaterials lists what is linked into a program, by what the program itself says: that, and no more than that, is in the image beside
// the certificate authorities.
func (i *Image) billOfMaterials(p Platform, program []byte) ([]byte, error) {
	info, err := buildinfo.Read(bytes.NewReader(program))
	if err != nil {
		return nil, fmt.Errorf("read what is in the program: %w", err)
	}
	main := component{
		Type: "application", Name: info.Main.Path, Version: i.options.Version, PURL: purl(info.Main.Path, i.options.Version),
		Hashes:     []hash{{"SHA-256", strings.TrimPrefix(digest(program), "sha256:")}},
		Properties: []property{{"podlane:platform", p.String()}, {"podlane:package", info.Path}},
	}
	main.Ref = main.PURL
	main.Licenses = make([]license, 1)
	main.Licenses[0].License.ID = labels["org.opencontainers.image.licenses"]
	b := bom{
		Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", Format: "CycloneDX", SpecVersion: "1.6", Version: 1,
		Metadata: metadata{stamp(i.options.Created), main},
	}
	// Scanners know the standard library by this name.
	std := &debug.Module{Path: "stdlib", Version: strings.TrimPrefix(info.GoVersion, "go")}
	needs := dependency{Ref: main.Ref}
	for _, m := range append([]*debug.Module{std}, info.Deps...) {
		c, err := moduleComponent(m)
		if err != nil {
			return nil, err
		}
		b.Components = append(b.Components, c)
		needs.DependsOn = append(needs.DependsOn, c.Ref)
	}
	authorities, count := roots(), 0
	for r := range bundle.Roots() {
		if r.Constraint == nil {
			count++
		}
	}
	c := component{
		Type: "data", Ref: "file:/" + rootsFile, Name: rootsFile, Hashes: []hash{{"SHA-256", strings.TrimPrefix(digest(authorities), "sha256:")}},
		Properties: []property{{"podlane:certificates", fmt.Sprint(count)}},
	}
	b.Components = append(b.Components, c)
	b.Dependencies = append(b.Dependencies, needs)
	out, err := json.MarshalIndent(b, "", "  ")
	return append(out, '\n'), err
}

// moduleComponent is a module that is linked, or what it is replaced by.
func moduleComponent(m *debug.Module) (component, error) {
	if m.Replace != nil {
		m = m.Replace
	}
	c := component{Type: "library", Name: m.Path, Version: m.Version, Scope: "required", PURL: purl(m.Path, m.Version)}
	c.Ref = c.PURL
	if m.Sum == "" {
		return c, nil // the standard library, and a folder that replaces a module
	}
	sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:"))
	if err != nil {
		return c, fmt.Errorf("sum of %s: %w", m.Path, err)
	}
	c.Hashes = []hash{{"SHA-256", hex.EncodeToString(sum)}}
	return c, nil
}

// purl is a package's URL. https://github.com/package-url/purl-spec
func purl(path, version string) string {
	return "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B")
}
