package manifest

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// origin says where an object was read. It finds lines only when it is asked, because most objects have no Problem.
type origin struct {
	file   string
	line   int    // of the document's first line, from 1
	text   string // of the document
	prefix string // where in the document the object is: "items[2]." in a List

	parsed bool
	root   *yaml.Node
}

// source returns file:line of a field, as kubectl explain writes it, or of the nearest thing around it that is there.
func (o *origin) source(field string) string { return o.at(o.lineOf(field)) }

// at returns file:line of a line of the document, which begins with line 1.
func (o *origin) at(line int) string {
	return o.file + ":" + strconv.Itoa(o.line+max(line, 1)-1)
}

// lineOf returns the line of a field within the document.
func (o *origin) lineOf(field string) int {
	if !o.parsed {
		o.parsed = true
		var document yaml.Node
		if yaml.Unmarshal([]byte(o.text), &document) == nil && len(document.Content) > 0 {
			o.root = document.Content[0]
		}
	}
	if o.root == nil {
		return 1
	}
	node, line := o.root, o.root.Line
	for _, step := range splitField(o.prefix + field) {
		key, value := childOf(node, step)
		if value == nil {
			break
		}
		node, line = value, key.Line
	}
	return line
}

// childOf returns a member of a mapping and its key, or an element of a sequence, or nil.
func childOf(n *yaml.Node, step string) (key, value *yaml.Node) {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == step {
				return n.Content[i], n.Content[i+1]
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(n.Content) {
			return n.Content[i], n.Content[i]
		}
	}
	return nil, nil
}

// splitField cuts spec.rules[0].host into spec, rules, 0 and host. What is in brackets may have dots:
// metadata.annotations[example.com/key].
func splitField(field string) []string {
	var steps []string
	for field != "" {
		if field[0] == '[' {
			end := strings.IndexByte(field, ']')
			if end < 0 {
				end = len(field)
			}
			steps = append(steps, field[1:end])
			field = field[min(end+1, len(field)):]
			continue
		}
		if field[0] == '.' {
			field = field[1:]
			continue
		}
		end := strings.IndexAny(field, ".[")
		if end < 0 {
			end = len(field)
		}
		steps = append(steps, field[:end])
		field = field[end:]
	}
	return steps
}
