package exchange

// Fields is a header or trailer section: an ordered list of fields whose bytes lie where the codec read them, or in an
// arena of its own where a filter added them. Order, spelling and duplicates are kept. Fields belongs to one Exchange and
// must not be used concurrently; slices that it returns are valid until the next Reset, and those of added fields until
// the next addition.
type Fields struct {
	head  []byte // parsed in place; owned by the codec
	extra []byte // added bytes; owned here
	list  []field
	first [NumID]uint16 // 1 + index in list of the first live field of an ID; 0 is none
}

// field is 20 bytes without pointers: offsets survive a head buffer that is moved, and the collector has nothing to scan.
type field struct {
	name, value       uint32 // offsets in head, or in extra where added
	nameLen, valueLen uint32
	id                ID
	origin            origin
}

type origin uint8

const (
	parsed  origin = iota // name and value lie in head
	added                 // name and value lie in extra
	removed               // skipped
)

// Reset empties f and makes head the bytes that offsets of Parsed refer to. f does not own head.
func (f *Fields) Reset(head []byte) {
	f.head = head
	f.extra = f.extra[:0]
	f.list = f.list[:0]
	clear(f.first[:])
}

// Rebase says that the bytes given to Reset have moved to head, with the same offsets.
func (f *Fields) Rebase(head []byte) { f.head = head }

// Parsed appends a field whose name and value are head[name:nameEnd] and head[value:valueEnd]. Only codecs call it.
func (f *Fields) Parsed(id ID, name, nameEnd, value, valueEnd int) {
	f.push(field{
		name: uint32(name), nameLen: uint32(nameEnd - name),
		value: uint32(value), valueLen: uint32(valueEnd - value), id: id,
	})
}

func (f *Fields) push(e field) {
	f.list = append(f.list, e)
	if e.id != Unknown && f.first[e.id] == 0 {
		f.first[e.id] = uint16(len(f.list))
	}
}

// Own copies what lies in the codec's buffer to f's own memory: the buffer may then be used for other messages.
func (f *Fields) Own() {
	for i := range f.list {
		e := &f.list[i]
		if e.origin != parsed {
			continue
		}
		at := len(f.extra)
		f.extra = append(append(f.extra, f.nameOf(e)...), f.valueOf(e)...)
		e.name, e.value, e.origin = uint32(at), uint32(at)+e.nameLen, added
	}
	f.head = nil
}

// Len is the number of positions of f, removed fields included: the bound of At's index.
func (f *Fields) Len() int { return len(f.list) }

// At returns the i-th field; ok is false where it was removed.
func (f *Fields) At(i int) (id ID, name, value []byte, ok bool) {
	e := &f.list[i]
	if e.origin == removed {
		return 0, nil, nil, false
	}
	return e.id, f.nameOf(e), f.valueOf(e), true
}

func (f *Fields) nameOf(e *field) []byte {
	if e.origin == added {
		return f.extra[e.name : e.name+e.nameLen]
	}
	return f.head[e.name : e.name+e.nameLen]
}

func (f *Fields) valueOf(e *field) []byte {
	if e.origin == added {
		return f.extra[e.value : e.value+e.valueLen]
	}
	return f.head[e.value : e.value+e.valueLen]
}

// Has reports whether f has a field of a known name.
func (f *Fields) Has(id ID) bool { return f.first[id] != 0 }

// Get returns the value of the first field of a known name, or nil where there is none. An empty value is not nil.
func (f *Fields) Get(id ID) []byte {
	i := f.first[id]
	if i == 0 {
		return nil
	}
	v := f.valueOf(&f.list[i-1])
	if v == nil {
		return []byte{}
	}
	return v
}

// Count is the number of fields of a known name.
func (f *Fields) Count(id ID) int {
	i := int(f.first[id])
	if i == 0 {
		return 0
	}
	n := 0
	for ; i <= len(f.list); i++ {
		if e := &f.list[i-1]; e.id == id && e.origin != removed {
			n++
		}
	}
	return n
}

// ascii reports whether every value of a known name is ASCII.
func (f *Fields) ascii(id ID) bool {
	if !f.Has(id) {
		return true
	}
	for i := range f.list {
		e := &f.list[i]
		if e.id != id || e.origin == removed {
			continue
		}
		for _, c := range f.valueOf(e) {
			if c >= 0x80 {
				return false
			}
		}
	}
	return true
}

// Lookup returns the value of the first field with the given name in any case, known or not.
func (f *Fields) Lookup(name string) ([]byte, bool) {
	if id := IDOf(name); id != Unknown {
		return f.Get(id), f.Has(id)
	}
	for i := range f.list {
		e := &f.list[i]
		if e.id == Unknown && e.origin != removed && EqualFold(f.nameOf(e), name) {
			return f.valueOf(e), true
		}
	}
	return nil, false
}

// Add appends a field. The bytes of name and value are copied.
func (f *Fields) Add(name string, value []byte) { addField(f, IDOf(name), name, value) }

// AddString is Add for a string value.
func (f *Fields) AddString(name, value string) { addField(f, IDOf(name), name, value) }

// Set replaces every field of a known name by one at the end.
func (f *Fields) Set(id ID, value []byte) { f.Del(id); addField(f, id, names[id], value) }

// SetString is Set for a string value.
func (f *Fields) SetString(id ID, value string) { f.Del(id); addField(f, id, names[id], value) }

func addField[T string | []byte](f *Fields, id ID, name string, value T) {
	at := len(f.extra)
	f.extra = append(f.extra, name...)
	f.extra = append(f.extra, value...)
	f.push(field{
		name: uint32(at), nameLen: uint32(len(name)),
		value: uint32(at + len(name)), valueLen: uint32(len(value)), id: id, origin: added,
	})
}

// Del removes every field of a known name and reports whether there was one.
func (f *Fields) Del(id ID) bool {
	i := int(f.first[id])
	if i == 0 {
		return false
	}
	f.first[id] = 0
	for ; i <= len(f.list); i++ {
		if e := &f.list[i-1]; e.id == id {
			e.origin = removed
		}
	}
	return true
}

// DelName removes every field with the given name in any case.
func (f *Fields) DelName(name []byte) {
	if id := IDOf(name); id != Unknown {
		f.Del(id)
		return
	}
	for i := range f.list {
		e := &f.list[i]
		if e.id == Unknown && e.origin != removed && equalFoldBytes(f.nameOf(e), name) {
			e.origin = removed
		}
	}
}

// DelString is DelName for a string that is no known name.
func (f *Fields) DelString(name string) {
	for i := range f.list {
		e := &f.list[i]
		if e.id == Unknown && e.origin != removed && EqualFold(f.nameOf(e), name) {
			e.origin = removed
		}
	}
}

// DelAt removes the i-th field.
func (f *Fields) DelAt(i int) {
	e := &f.list[i]
	e.origin = removed
	if e.id == Unknown || int(f.first[e.id]) != i+1 {
		return
	}
	f.first[e.id] = 0
	for j := i + 1; j < len(f.list); j++ {
		if n := &f.list[j]; n.id == e.id && n.origin != removed {
			f.first[e.id] = uint16(j + 1)
			return
		}
	}
}

func equalFoldBytes(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if Lower(a[i]) != Lower(b[i]) {
			return false
		}
	}
	return true
}

// Size is the number of bytes of all fields as HTTP/1.1 writes them.
func (f *Fields) Size() int {
	n := 0
	for i := range f.list {
		if e := &f.list[i]; e.origin != removed {
			n += int(e.nameLen) + int(e.valueLen) + len(": \r\n")
		}
	}
	return n
}

// release drops references to the codec's buffer, and an arena that one request made large, before f is pooled.
func (f *Fields) release() {
	f.Reset(nil)
	if cap(f.extra) > maxPooledArena {
		f.extra = nil
	}
}

// maxPooledArena bounds what a pooled Exchange keeps: enough for every field that the proxy adds by itself.
const maxPooledArena = 4 << 10

// AppendTo appends the fields as HTTP/1.1 writes them, without the empty line behind them. Runs of fields that lie in the codec's
// buffer as they would be written are copied in one piece.
func (f *Fields) AppendTo(dst []byte) []byte {
	for i := 0; i < len(f.list); i++ {
		e := &f.list[i]
		switch {
		case e.origin == removed:
		case e.origin == added || !f.tidy(e):
			dst = append(dst, f.nameOf(e)...)
			dst = append(dst, ": "...)
			dst = append(dst, f.valueOf(e)...)
			dst = append(dst, "\r\n"...)
		default:
			from := e.name
			for i+1 < len(f.list) && f.list[i+1].follows(e) && f.tidy(&f.list[i+1]) {
				i++
				e = &f.list[i]
			}
			dst = append(dst, f.head[from:e.value+e.valueLen]...)
			dst = append(dst, "\r\n"...)
		}
	}
	return dst
}

// tidy reports whether a parsed field was written as "name: value" with one space.
func (f *Fields) tidy(e *field) bool {
	return e.value == e.name+e.nameLen+2 && f.head[e.value-1] == ' '
}

// follows reports whether e is a parsed field that begins right behind the line end of before.
func (e *field) follows(before *field) bool {
	return e.origin == parsed && e.name == before.value+before.valueLen+2
}
