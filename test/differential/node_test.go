package differential

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/binary"
	"encoding/json"
	"os/exec"
	"testing"
)

// node is Node's http server, whose parser is llhttp in its strict setting. One process reads everything: the texts come as frames on its
// standard input, each is given to the server as a connection, and what it read comes back as a line of JSON.
type node struct{ path string }

//go:embed node.js
var nodeScript string

func newNode(t *testing.T) oracle {
	t.Helper()
	path, err := exec.LookPath("node")
	if err != nil {
		t.Skip("Node is not installed (Debian: apt-get install nodejs)")
	}
	return node{path}
}

func (n node) read(t *testing.T, texts []string) []reading {
	t.Helper()
	var in bytes.Buffer
	for _, text := range texts {
		_ = binary.Write(&in, binary.BigEndian, uint32(len(text)))
		in.WriteString(text)
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), n.path, "--input-type=commonjs", "-e", nodeScript)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &in, &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("node: %v\n%s", err, errs.Bytes())
	}
	var all []reading
	lines := bufio.NewScanner(&out)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var got struct {
			Requests []struct {
				Method, URL, Body string
				Headers           []string
			}
			Error string
		}
		if err := json.Unmarshal(lines.Bytes(), &got); err != nil {
			t.Fatalf("node says %.200q: %v", lines.Bytes(), err)
		}
		r := reading{refusal: got.Error}
		for _, q := range got.Requests {
			one := request{method: q.Method, target: latin(q.URL), body: latin(q.Body)}
			for i := 0; i+1 < len(q.Headers); i += 2 {
				one.fields = append(one.fields, field{latin(q.Headers[i]), latin(q.Headers[i+1])})
			}
			r.requests = append(r.requests, one)
		}
		all = append(all, r)
	}
	if len(all) != len(texts) {
		t.Fatalf("node read %d of %d texts\n%s", len(all), len(texts), errs.Bytes())
	}
	return all
}
