// Package secure is the clients' half of TLS 1.3 (RFC 8446) as a load needs it: without input or output of its own, so that an event loop
// can drive ten thousand of them, and cheaper than crypto/tls, so that one core makes more handshakes than a proxy on another. It
// offers TLS_AES_128_GCM_SHA256 and X25519, and no resumption.
//
// It is no client for anything else: it checks that the server holds the handshake's secrets (Finished), but neither the certificate nor
// the signature with it. The benchmark asks every proxy once with crypto/tls, which does.
package secure

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/binary"
	"fmt"
)

// The numbers of RFC 8446, sections 4 and 5.1, and of the extensions that are sent.
const (
	recordChange    = 20
	recordAlert     = 21
	recordHandshake = 22
	recordData      = 23

	clientHello       = 1
	serverHello       = 2
	newSessionTicket  = 4
	encryptedExts     = 8
	certificate       = 11
	certificateVerify = 15
	finished          = 20

	extServerName  = 0
	extGroups      = 10
	extSignatures  = 13
	extProtocols   = 16
	extVersions    = 43
	extKeyShare    = 51
	version12      = 0x0303
	version13      = 0x0304
	suiteAES128GCM = 0x1301
	groupX25519    = 0x001d
	ecdsaP256      = 0x0403

	recordHead  = 5
	messageHead = 4
	tagSize     = 16
	maxPlain    = 16 << 10
	hashSize    = 32
)

// A Client is what the sessions with one host share.
type Client struct {
	// key is that of every session: making one costs as much as using it, and nothing here is a secret.
	key      *ecdh.PrivateKey
	hello    []byte // the record, but for the random
	protocol string
}

// NewClient returns a client for a host that speaks one protocol, named as ALPN names it.
func NewClient(host, protocol string) (*Client, error) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("key share: %w", err)
	}
	c := &Client{key: key, protocol: protocol}
	c.hello = record(recordHandshake, message(clientHello, c.body(host)))
	return c, nil
}

// body is the ClientHello.
func (c *Client) body(host string) []byte {
	extension := func(kind uint16, body []byte) []byte { return append(number(kind), sized16(body)...) }
	var list []byte
	list = append(list, extension(extServerName, sized16(append([]byte{0}, sized16([]byte(host))...)))...)
	list = append(list, extension(extGroups, sized16(number(groupX25519)))...)
	list = append(list, extension(extSignatures, sized16(number(ecdsaP256)))...)
	list = append(list, extension(extProtocols, sized16(sized8([]byte(c.protocol))))...)
	list = append(list, extension(extVersions, sized8(number(version13)))...)
	list = append(list, extension(extKeyShare, sized16(append(number(groupX25519), sized16(c.key.PublicKey().Bytes())...)))...)

	body := number(version12)
	body = append(body, make([]byte, randomSize)...)
	body = append(body, 0) // no session
	body = append(body, sized16(number(suiteAES128GCM))...)
	body = append(body, 1, 0) // no compression
	return append(body, sized16(list)...)
}

// Where the random stands in the record of a hello.
const (
	randomAt   = recordHead + messageHead + 2
	randomSize = 32
)

func number(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

func sized8(b []byte) []byte { return append([]byte{byte(len(b))}, b...) }

func sized16(b []byte) []byte { return append(number(uint16(len(b))), b...) }

// message puts the head of a handshake message before its body.
func message(kind byte, body []byte) []byte {
	n := len(body)
	return append([]byte{kind, byte(n >> 16), byte(n >> 8), byte(n)}, body...)
}

// record puts the head of a record before what it carries.
func record(kind byte, body []byte) []byte {
	head := binary.BigEndian.AppendUint16([]byte{kind, version12 >> 8, version12 & 0xff}, uint16(len(body)))
	return append(head, body...)
}
