package proxy

import "unsafe"

// text views bytes as a string without a copy. The result must not outlive the bytes, nor be kept.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
