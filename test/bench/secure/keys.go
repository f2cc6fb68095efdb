package secure

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
)

// half is one direction of a connection under one key.
type half struct {
	aead  cipher.AEAD
	iv    [12]byte
	nonce [12]byte
	seq   uint64
}

// newHalf derives the key of a traffic secret.
func newHalf(secret []byte) (*half, error) {
	key, err := expand(secret, "key", nil, 16)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	h := &half{}
	if h.aead, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	iv, err := expand(secret, "iv", nil, len(h.iv))
	copy(h.iv[:], iv)
	return h, err
}

// next is the nonce of the next record (RFC 8446, section 5.3).
func (h *half) next() []byte {
	h.nonce = h.iv
	tail := h.nonce[4:]
	binary.BigEndian.PutUint64(tail, binary.BigEndian.Uint64(tail)^h.seq)
	h.seq++
	return h.nonce[:]
}

// seal appends a record with p to dst.
func (h *half) seal(dst []byte, kind byte, p []byte) []byte {
	dst = append(dst, recordData, version12>>8, version12&0xff)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(p)+1+tagSize))
	at := len(dst)
	dst = append(append(dst, p...), kind)
	return h.aead.Seal(dst[:at], h.next(), dst[at:], dst[at-recordHead:at])
}

// open decrypts a record in place, and returns its kind and what it carries.
func (h *half) open(record []byte) (kind byte, p []byte, err error) {
	body := record[recordHead:]
	if p, err = h.aead.Open(body[:0], h.next(), body, record[:recordHead]); err != nil {
		return 0, nil, err
	}
	for len(p) > 0 && p[len(p)-1] == 0 { // padding
		p = p[:len(p)-1]
	}
	if len(p) == 0 {
		return 0, nil, errRecord
	}
	return p[len(p)-1], p[:len(p)-1], nil
}

// expand is HKDF-Expand-Label of RFC 8446, section 7.1.
func expand(secret []byte, label string, context []byte, size int) ([]byte, error) {
	info := number(uint16(size))
	info = append(info, sized8([]byte("tls13 "+label))...)
	info = append(info, sized8(context)...)
	return hkdf.Expand(sha256.New, secret, string(info), size)
}

// schedule is the key schedule of a full handshake.
type schedule struct {
	client, server []byte // the handshake's traffic secrets
	master         []byte
}

// empty is the hash of no messages.
var empty = sha256.Sum256(nil)

// newSchedule begins it with the shared secret and the hash of both hellos.
func newSchedule(shared, hellos []byte) (*schedule, error) {
	none := make([]byte, hashSize)
	early, err := hkdf.Extract(sha256.New, none, nil)
	if err != nil {
		return nil, err
	}
	salt, err := expand(early, "derived", empty[:], hashSize)
	if err != nil {
		return nil, err
	}
	handshake, err := hkdf.Extract(sha256.New, shared, salt)
	if err != nil {
		return nil, err
	}
	s := &schedule{}
	if s.client, err = expand(handshake, "c hs traffic", hellos, hashSize); err != nil {
		return nil, err
	}
	if s.server, err = expand(handshake, "s hs traffic", hellos, hashSize); err != nil {
		return nil, err
	}
	if salt, err = expand(handshake, "derived", empty[:], hashSize); err != nil {
		return nil, err
	}
	s.master, err = hkdf.Extract(sha256.New, none, salt)
	return s, err
}

// verify is what Finished carries of one who knows a traffic secret.
func verify(secret, transcript []byte) ([]byte, error) {
	key, err := expand(secret, "finished", nil, hashSize)
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(transcript)
	return mac.Sum(nil), nil
}
