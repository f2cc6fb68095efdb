// Package image builds Podlane's container image without a container engine: the go command compiles, and what is left of an image is
// archives and JSON. It owns what is in the image, and its bill of materials. Equal sources and the same version of Go give equal bytes.
// It must not reach the network but for the go command's modules, and pushes nothing: see crane beside it.
package image
