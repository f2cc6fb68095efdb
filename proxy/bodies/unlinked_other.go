//go:build !linux

package bodies

import "os"

// unlinked makes a file without a name in dir.
func unlinked(dir string) (*os.File, error) { return created(dir) }
