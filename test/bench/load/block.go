package load

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/textproto"
	"strings"

	"golang.org/x/net/http2/hpack"
)

// block is a message's header block in HTTP/2: the first of a connection, which fills the proxy's table, and the others, which refer to
// it, as browsers and SDKs do. The target goes as it is, because each has another.
type block struct {
	first, other []byte
	target       string // without the id
}

// errMessage says that a message cannot be said in HTTP/2.
var errMessage = errors.New("not a message for HTTP/2")

// pathLiteral begins a field that is not indexed and has the name of the fourth entry of the static table, :path (RFC 7541, 6.2.2).
const pathLiteral = 0x04

// newBlock makes the block of a message in HTTP/1.1.
func newBlock(m *Message) (*block, error) {
	if len(m.Body) > 0 || m.Echo > 0 {
		return nil, fmt.Errorf("%w: it has a body", errMessage)
	}
	r := textproto.NewReader(bufio.NewReader(bytes.NewReader(m.Head)))
	start, err := r.ReadLine()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMessage, err)
	}
	words := strings.Fields(start)
	if len(words) != 3 || !strings.HasSuffix(words[1], ID) || len(words[1]) > 126 {
		return nil, fmt.Errorf("%w: %q", errMessage, start)
	}
	pseudo := []hpack.HeaderField{{Name: ":method", Value: words[0]}, {Name: ":scheme", Value: "https"}}
	var fields []hpack.HeaderField
	for {
		line, err := r.ReadLine()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errMessage, err)
		}
		if line == "" {
			break
		}
		name, value, _ := strings.Cut(line, ": ")
		if strings.EqualFold(name, "Host") {
			pseudo = append(pseudo, hpack.HeaderField{Name: ":authority", Value: value})
			continue
		}
		fields = append(fields, hpack.HeaderField{Name: strings.ToLower(name), Value: value})
	}
	b := &block{target: strings.TrimSuffix(words[1], ID)}
	var out bytes.Buffer
	e := hpack.NewEncoder(&out)
	for _, to := range []*[]byte{&b.first, &b.other} {
		out.Reset()
		encode(e, pseudo)
		out.WriteByte(pathLiteral)
		out.WriteByte(byte(len(words[1])))
		out.WriteString(words[1])
		encode(e, fields)
		*to = bytes.Clone(out.Bytes())
	}
	return b, nil
}

// encode writes fields to a buffer, which takes all.
func encode(e *hpack.Encoder, fields []hpack.HeaderField) {
	for _, f := range fields {
		_ = e.WriteField(f)
	}
}
