package policy

// Partial is what a parsed value may be that holds although a part of what its keys say does not: Build tells of each part. Values of families that are
// not Global tell of annotations only.
type Partial interface {
	// Omitted returns the parts; the caller must not change them.
	Omitted() []Omission
}

// Omission is a part of a value that has no effect.
type Omission struct {
	// Key is the key of the ConfigMap, or the annotation without its prefix. Message says what the part is and what holds instead, for who wrote it.
	Key, Message string
}
