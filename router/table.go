package router

// Table is immutable and safe for any number of readers.
type Table struct{}
