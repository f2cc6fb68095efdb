package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	k8sjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"podlane.dev/podlane/router/ingress"
)

// file is what one file came to. It is kept as long as its text is the same.
type file struct {
	name, text string
	unreadable bool
	objects    []*object
	problems   []ingress.Problem
}

// brokenFile is a file that could not be read at all.
func brokenFile(name, message string) *file {
	return &file{name: name, unreadable: true, problems: []ingress.Problem{fileProblem(name, message)}}
}

// parseFile decodes the documents of a file. A document that does not parse takes no other along.
func parseFile(name, text string) *file {
	f := &file{name: name, text: text}
	for _, d := range splitDocuments(text) {
		o := &origin{file: name, line: d.line, text: d.text}
		data, repeated, err := toJSON(d.text)
		if err != nil {
			f.broken(o, errorLine(err), withoutLine(err, d.text))
			continue
		}
		if repeated != nil {
			p := fileProblem(f.name, withoutLine(repeated, "").Error()+": the last one counts")
			p.Reason, p.Effect, p.Source = ingress.UnknownField, ingress.Notice, o.at(errorLine(repeated))
			f.problems = append(f.problems, p)
		}
		f.document(o, data)
	}
	return f
}

// broken adds the Problem of a document that does not parse; line counts from the document's first, which is 1.
func (f *file) broken(o *origin, line int, err error) {
	p := fileProblem(f.name, err.Error())
	p.Source = o.at(line)
	f.problems = append(f.problems, p)
}

// document is one of the documents of a file, with the line on which it begins: 1 for the first.
type document struct {
	text string
	line int
}

// splitDocuments cuts text at the lines that begin with "---". What follows on such a line belongs to the next document.
func splitDocuments(text string) []document {
	var documents []document
	text = strings.TrimPrefix(text, "\ufeff")
	current, line, start := strings.Builder{}, 0, 1
	flush := func() {
		if s := current.String(); hasContent(s) {
			documents = append(documents, document{s, start})
		}
		current.Reset()
	}
	for l := range strings.Lines(text) {
		line++
		if rest, ok := strings.CutPrefix(l, "---"); ok && (rest == "" || strings.ContainsAny(rest[:1], " \t\r\n")) {
			flush()
			start = line
			// Blanks instead of dashes keep columns and lines as they are.
			l = "   " + rest
		}
		current.WriteString(l)
	}
	flush()
	return documents
}

// hasContent says whether a document has more than comments, directives and blank lines.
func hasContent(document string) bool {
	for l := range strings.Lines(document) {
		if l = strings.TrimSpace(l); l != "" && l != "..." && l[0] != '#' && l[0] != '%' {
			return true
		}
	}
	return false
}

// toJSON converts a document, as kubectl does. JSON is taken as it is: YAML does not allow its tabs. repeated says that a
// key is there twice.
func toJSON(text string) (data []byte, repeated, err error) {
	trimmed := strings.TrimSpace(text)
	if strings.HasPrefix(trimmed, "{") {
		if json.Valid([]byte(trimmed)) {
			return []byte(trimmed), nil, nil
		}
		if stream, ok := jsonStream(text); ok {
			return stream, nil, nil
		}
	}
	data, strictErr := yaml.YAMLToJSONStrict([]byte(text))
	if strictErr == nil {
		return data, nil, nil
	}
	if data, err = yaml.YAMLToJSON([]byte(text)); err != nil {
		return nil, nil, err
	}
	return data, strictErr, nil
}

// jsonStream turns JSON objects that follow one another into one List.
func jsonStream(text string) ([]byte, bool) {
	list := []byte(`{"apiVersion":"v1","kind":"List","items":[`)
	decoder := json.NewDecoder(strings.NewReader(text))
	for n := 0; ; n++ {
		var item json.RawMessage
		if err := decoder.Decode(&item); errors.Is(err, io.EOF) {
			return append(list, "]}"...), n > 1
		} else if err != nil {
			return nil, false
		}
		if n > 0 {
			list = append(list, ',')
		}
		list = append(list, item...)
	}
}

// lineInError is how the YAML parser says where.
var lineInError = regexp.MustCompile(`\bline (\d+)`)

// errorLine returns the line that a parser's error names, else 1.
func errorLine(err error) int {
	if m := lineInError.FindStringSubmatch(err.Error()); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil {
			return n
		}
	}
	return 1
}

// parserPrefix is what the YAML parser puts before what it has to say.
var parserPrefix = regexp.MustCompile(`(yaml: |unmarshal errors:|line \d+: |\s)+`)

// withoutLine returns a parser's error without the line, which is the document's and not the file's, and on one line.
func withoutLine(err error, text string) error {
	message := err.Error()
	if loc := parserPrefix.FindStringIndex(message); loc != nil && loc[0] == 0 {
		message = message[loc[1]:]
	}
	if strings.Contains(text, "{{") {
		message += " (is it a template, of Helm perhaps?)"
	}
	return errors.New(strings.Join(strings.Fields(message), " "))
}

// header is what every object has.
type header struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
	Items []json.RawMessage `json:"items"`
}

// maxNesting is how deep Lists may be in Lists.
const maxNesting = 8

// document decodes one object, or the objects of a List.
func (f *file) document(o *origin, data []byte) {
	var h header
	if err := json.Unmarshal(data, &h); err != nil {
		line := 1
		if typed, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			line = o.lineOf(typed.Field)
			err = fmt.Errorf("%s cannot be of type %s in a Kubernetes object", fieldOrDocument(typed.Field), typed.Value)
		}
		f.broken(o, line, err)
		return
	}
	if strings.HasSuffix(h.Kind, "List") && h.Items != nil {
		f.list(o, h)
		return
	}
	if h.APIVersion == "" || h.Kind == "" {
		f.problems = append(f.problems, ingress.Problem{
			Object: ingress.Object{Kind: "File", Name: f.name}, Field: "kind", Reason: ingress.NotManifest, Effect: ingress.Notice,
			Message: "the document has no apiVersion and kind, so it is not a Kubernetes object and is left out", Source: o.at(1),
		})
		return
	}
	f.decode(o, h, data)
}

// fieldOrDocument names the whole document where an error has no field.
func fieldOrDocument(field string) string {
	if field == "" {
		return "the document"
	}
	return field
}

// list decodes the objects of a List. Those of a typed list may leave kind and apiVersion to the list.
func (f *file) list(o *origin, h header) {
	if strings.Count(o.prefix, "items[") >= maxNesting {
		f.broken(o, 1, fmt.Errorf("lists are nested more than %d deep", maxNesting))
		return
	}
	kind := strings.TrimSuffix(h.Kind, "List")
	for i, data := range h.Items {
		item := *o
		item.prefix += fmt.Sprintf("items[%d].", i)
		if kind != "" {
			data = withType(data, h.APIVersion, kind)
		}
		f.document(&item, data)
	}
}

// withType adds apiVersion and kind to an object that lacks them.
func withType(data []byte, apiVersion, kind string) []byte {
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil || fields == nil {
		return data
	}
	for name, value := range map[string]string{"apiVersion": apiVersion, "kind": kind} {
		if _, ok := fields[name]; !ok {
			fields[name], _ = json.Marshal(value) // a string always marshals
		}
	}
	typed, err := json.Marshal(fields)
	if err != nil {
		return data
	}
	return typed
}

// strict decodes data into v and reports fields that v does not have, or has twice, as notices. ok is false if data does
// not fit v.
func (f *file) strict(o *origin, key objectKey, data []byte, v any) (ok bool) {
	unknown, err := k8sjson.UnmarshalStrict(data, v)
	if err != nil {
		field := ""
		// The error's type is internal to the decoder, so its text has to do.
		if m := typeError.FindStringSubmatch(err.Error()); m != nil {
			field = m[2]
			err = fmt.Errorf("%s has a %s where a %s belongs", m[2], m[1], m[3])
			if m[3] == "string" {
				err = fmt.Errorf("%w: quote it", err)
			}
		}
		f.broken(o, o.lineOf(field), fmt.Errorf("%s: %w", key.object(), err))
		return false
	}
	for _, e := range unknown {
		field := ""
		if m := quotedField.FindStringSubmatch(e.Error()); m != nil {
			field = m[1]
		}
		f.problems = append(f.problems, ingress.Problem{
			Object: key.object(), Field: field, Reason: ingress.UnknownField, Effect: ingress.Notice,
			Message: e.Error() + ": it has no effect", Source: o.source(field),
		})
	}
	return true
}

var (
	quotedField = regexp.MustCompile(`field "([^"]*)"`)
	typeError   = regexp.MustCompile(`cannot unmarshal (\w+).* into Go struct field \w+\.([\w.]+) of type (\S+)`)
)
