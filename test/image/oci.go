package image

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"
)

// Media types of the OCI image specification, version 1.1.
const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// A Platform is an operating system and an architecture, by Go's names, which are OCI's too.
type Platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
}

// String returns "linux/amd64".
func (p Platform) String() string { return p.OS + "/" + p.Architecture }

// A descriptor refers to a blob.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Platform    *Platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// An index lists the manifests of an image for several platforms.
type index struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	Manifests     []descriptor      `json:"manifests"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// A manifest is an image for one platform.
type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	Config        descriptor        `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// A configuration says how to run an image.
type configuration struct {
	Created string `json:"created"`
	Platform
	Config struct {
		User         string
		ExposedPorts map[string]struct{}
		Entrypoint   []string
		Cmd          []string
		WorkingDir   string
		Labels       map[string]string
	} `json:"config"`
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
	History []step `json:"history"`
}

// A step says where a layer comes from.
type step struct {
	Created   string `json:"created"`
	CreatedBy string `json:"created_by"`
}

// digest is the name of a blob.
func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// add keeps a blob and returns what refers to it.
func (i *Image) add(mediaType string, content []byte) descriptor {
	d := descriptor{MediaType: mediaType, Digest: digest(content), Size: int64(len(content))}
	i.blobs[d.Digest] = content
	return d
}

// addJSON is add for what is written as JSON.
func (i *Image) addJSON(mediaType string, v any) (descriptor, error) {
	content, err := json.Marshal(v)
	if err != nil {
		return descriptor{}, err
	}
	return i.add(mediaType, content), nil
}

// stamp is a time as the specification wants it.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
