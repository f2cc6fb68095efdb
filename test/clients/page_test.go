package clients_test

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// pageObjects is how many objects the page has besides itself, of three kinds.
const pageObjects = 200

// page is a page whose objects are images, scripts and style sheets. What each does can be seen on the page.
func (p *pod) page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	var b strings.Builder
	b.WriteString("<!doctype html><title>page</title><link rel=icon href=data:,>\n<script>performance.setResourceTimingBufferSize(1000); window.scripts = 0</script>\n")
	for i := range pageObjects {
		switch i % 4 {
		case 0:
			fmt.Fprintf(&b, "<link rel=stylesheet href=/object/%d.css>\n", i)
		case 1:
			fmt.Fprintf(&b, "<script async src=/object/%d.js></script>\n", i)
		default:
			fmt.Fprintf(&b, "<img src=/object/%d.svg>\n", i)
		}
	}
	fmt.Fprint(w, b.String())
}

// object is one object of the page, of some kilobytes.
func (p *pod) object(w http.ResponseWriter, q *http.Request) {
	padding := strings.Repeat(" ", 3000)
	number, kind, _ := strings.Cut(q.PathValue("name"), ".")
	switch kind {
	case "css":
		w.Header().Set("Content-Type", "text/css")
		fmt.Fprintf(w, ":root { --sheet-%s: 1 } %s", number, padding)
	case "js":
		w.Header().Set("Content-Type", "text/javascript")
		fmt.Fprintf(w, "window.scripts++ %s", padding)
	default:
		w.Header().Set("Content-Type", "image/svg+xml")
		fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="3" height="3"></svg>%s`, padding)
	}
}

// The few words of RFC 6455 that an echo needs.
const (
	socketGUID     = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
	socketClose    = 8
	maxSocketFrame = 16 << 20
)

// socket is a WebSocket that sends every frame back, and ends after a close.
func (p *pod) socket(w http.ResponseWriter, q *http.Request) {
	sum := sha1.Sum([]byte(q.Header.Get("Sec-WebSocket-Key") + socketGUID))
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer c.Close()
	fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
	for {
		if rw.Flush() != nil {
			return
		}
		first, payload, err := readFrame(rw.Reader)
		if err != nil {
			return
		}
		writeFrame(rw.Writer, first, payload)
		if first&0xf == socketClose {
			_ = rw.Flush()
			return
		}
	}
}

// readFrame reads a frame of a client: its first byte, and its payload without the mask.
func readFrame(r *bufio.Reader) (first byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := uint64(head[1] & 0x7f)
	var long [8]byte
	switch n {
	case 126:
		_, err = io.ReadFull(r, long[6:])
		n = binary.BigEndian.Uint64(long[:])
	case 127:
		_, err = io.ReadFull(r, long[:])
		n = binary.BigEndian.Uint64(long[:])
	}
	if err != nil || n > maxSocketFrame || head[1]&0x80 == 0 {
		return 0, nil, errors.Join(err, errors.New("no frame of a client"))
	}
	masked := make([]byte, 4+n)
	if _, err := io.ReadFull(r, masked); err != nil {
		return 0, nil, err
	}
	mask, payload := masked[:4], masked[4:]
	for i := range payload {
		payload[i] ^= mask[i%4]
	}
	return head[0], payload, nil
}

// writeFrame writes a frame of a server.
func writeFrame(w *bufio.Writer, first byte, payload []byte) {
	_ = w.WriteByte(first)
	switch n := len(payload); {
	case n < 126:
		_ = w.WriteByte(byte(n))
	case n < 1<<16:
		_ = w.WriteByte(126)
		_, _ = w.Write(binary.BigEndian.AppendUint16(nil, uint16(n)))
	default:
		_ = w.WriteByte(127)
		_, _ = w.Write(binary.BigEndian.AppendUint64(nil, uint64(n)))
	}
	_, _ = w.Write(payload)
}
