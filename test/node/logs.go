package node

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// tails are the ends of the logs of all programs, for an error.
func (n *Node) tails() string {
	var out strings.Builder
	logs, _ := filepath.Glob(n.path("log", "*.log")) // the pattern is right
	for _, file := range logs {
		content, err := os.ReadFile(file)
		if err != nil {
			content = []byte(err.Error())
		}
		lines := strings.Split(string(bytes.TrimSpace(content)), "\n")
		fmt.Fprintf(&out, "\n--- %s, last lines:\n%s", file, strings.Join(lines[max(0, len(lines)-12):], "\n"))
	}
	return out.String()
}
