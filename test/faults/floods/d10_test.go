package floods_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"strings"
	"testing"
)

// D10: keys that are changed again and again (CVE-2026-32283): alone, with a demand to change the other side's too, and with a frame before
// each, which makes it look like a connection on which something happens.
func TestD10KeyUpdates(t *testing.T) {
	t.Run("alone", func(t *testing.T) {
		withstand(t, attack{rekeys: true, step: func(c *raw) error { return c.write(func() error { return c.keys.update(demanded) }) }})
	})
	t.Run("beside PING", func(t *testing.T) {
		withstand(t, attack{rekeys: true, code: calm, few: 1200, step: func(c *raw) error {
			err := c.write(func() error { return c.fr.WritePing(false, [8]byte{}) })
			if err != nil {
				return err
			}
			return c.write(func() error { return c.keys.update(undemanded) })
		}})
	})
}

// records are what a client sends over TLS 1.3, under keys that it changes when it likes (RFC 8446 sections 5.2 and 7.2): crypto/tls, which makes
// the handshake and reads, never does.
type records struct {
	conn   net.Conn
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

// newRecords takes over the sending half of a connection on which nothing was sent behind the handshake, whose secrets are in log.
func newRecords(tc *tls.Conn, log *bytes.Buffer) (*records, error) {
	if suite := tc.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
		return nil, fmt.Errorf("%s is not spoken here", tls.CipherSuiteName(suite))
	}
	for line := range strings.Lines(log.String()) {
		if words := strings.Fields(line); len(words) == 3 && words[0] == "CLIENT_TRAFFIC_SECRET_0" {
			secret, err := hex.DecodeString(words[2])
			if err != nil {
				return nil, err
			}
			r := &records{conn: tc.NetConn()}
			return r, r.use(secret)
		}
	}
	return nil, fmt.Errorf("no secret in %q", log)
}

// use begins with the keys of a secret.
func (r *records) use(secret []byte) error {
	key, err := expand(secret, "key", 16)
	if err != nil {
		return err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return err
	}
	r.secret, r.seq = secret, 0
	if r.aead, err = cipher.NewGCM(block); err != nil {
		return err
	}
	r.iv, err = expand(secret, "iv", r.aead.NonceSize())
	return err
}

// expand is HKDF-Expand-Label without a context (RFC 8446 section 7.1).
func expand(secret []byte, label string, n int) ([]byte, error) {
	label = "tls13 " + label
	info := append(binary.BigEndian.AppendUint16(nil, uint16(n)), byte(len(label)))
	return hkdf.Expand(sha256.New, secret, string(info)+label+"\x00", n)
}

// The types of what a record holds.
const (
	handshakeType = 22
	dataType      = 23
)

// Write sends application data.
func (r *records) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		part := p[n:min(len(p), n+16<<10)]
		err = r.send(dataType, part)
		n += len(part)
	}
	return n, err
}

// demand is what a KeyUpdate wants of the other side: to change its keys, or nothing.
type demand byte

const (
	undemanded demand = iota
	demanded
)

// update sends a KeyUpdate, and changes the keys.
func (r *records) update(d demand) error {
	if err := r.send(handshakeType, []byte{24, 0, 0, 1, byte(d)}); err != nil {
		return err
	}
	next, err := expand(r.secret, "traffic upd", sha256.Size)
	if err != nil {
		return err
	}
	return r.use(next)
}

// send sends a record.
func (r *records) send(kind byte, p []byte) error {
	head := binary.BigEndian.AppendUint16([]byte{dataType, 3, 3}, uint16(len(p)+1+r.aead.Overhead()))
	nonce := bytes.Clone(r.iv)
	for i := range 8 {
		nonce[len(nonce)-1-i] ^= byte(r.seq >> (8 * i))
	}
	r.seq++
	_, err := r.conn.Write(r.aead.Seal(head, nonce, append(bytes.Clone(p), kind), head))
	return err
}
