package secure

import (
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
)

// A Session is one connection's TLS. It is fed with what a socket reads, and says what has to be written.
type Session struct {
	c          *Client
	in, out    *half // nil while records are not encrypted
	transcript hash.Hash
	keys       *schedule
	messages   []byte // of the handshake, not whole yet
	expects    byte   // the next message of the handshake
	up         bool
	flight     []byte // to be written
	sealed     []byte // what Seal returned
	buffer     []byte // holds rest
	rest       []byte // of a record that has not come whole
}

// The kinds of failure.
var (
	errRecord  = errors.New("tls: record")
	errMessage = errors.New("tls: handshake message")
	errAlert   = errors.New("tls: alert")
)

// Session begins a session, whose ClientHello is its first Flight.
func (c *Client) Session() *Session {
	s := &Session{c: c, transcript: sha256.New(), expects: serverHello, flight: append([]byte(nil), c.hello...)}
	_, _ = rand.Read(s.flight[randomAt:][:randomSize]) // never fails
	s.transcript.Write(s.flight[recordHead:])
	return s
}

// Up reports whether the handshake is complete, from when on Seal may be called.
func (s *Session) Up() bool { return s.up }

// Flight returns what of the handshake has to be written now, once.
func (s *Session) Flight() []byte {
	f := s.flight
	s.flight = nil
	return f
}

// Seal returns records with the bytes of head and tail. They are the session's, until the next call.
func (s *Session) Seal(head, tail []byte) []byte {
	s.sealed = s.sealed[:0]
	for _, part := range [2][]byte{head, tail} {
		for len(part) > 0 {
			n := min(len(part), maxPlain)
			s.sealed = s.out.seal(s.sealed, recordData, part[:n])
			part = part[n:]
		}
	}
	return s.sealed
}

// Take reads what a socket has read, decrypts it in place, and returns what the server has said to the application: it is in the bytes of in, or
// the session's, until the next call.
func (s *Session) Take(in []byte) ([]byte, error) {
	own := len(s.rest) > 0
	if own {
		s.buffer = append(append(s.buffer[:0], s.rest...), in...)
		in, s.rest = s.buffer, nil
	}
	plain := in[:0]
	for len(in) >= recordHead {
		size := recordHead + int(binary.BigEndian.Uint16(in[3:]))
		if size > recordHead+maxPlain+256 {
			return nil, fmt.Errorf("%w of %d bytes", errRecord, size)
		}
		if size > len(in) {
			break
		}
		said, err := s.record(in[:size])
		if err != nil {
			return nil, err
		}
		plain = append(plain, said...) // never behind what is being read
		in = in[size:]
	}
	if len(in) > 0 {
		if !own {
			s.buffer = append(s.buffer[:0], in...)
			in = s.buffer
		}
		s.rest = in
	}
	return plain, nil
}

// record reads one record, and returns what it says to the application.
func (s *Session) record(r []byte) ([]byte, error) {
	kind, body := r[0], r[recordHead:]
	if kind == recordChange {
		return nil, nil // says nothing (RFC 8446, appendix D.4)
	}
	if s.in != nil {
		var err error
		if kind, body, err = s.in.open(r); err != nil {
			return nil, fmt.Errorf("%w: %w", errRecord, err)
		}
	}
	switch {
	case kind == recordData && s.up:
		return body, nil
	case kind == recordAlert && len(body) == 2:
		if body[1] == 0 {
			return nil, nil // close_notify: the end follows
		}
		return nil, fmt.Errorf("%w %d", errAlert, body[1])
	case kind == recordHandshake:
		return nil, s.handshake(body)
	default:
		return nil, fmt.Errorf("%w of kind %d", errRecord, kind)
	}
}

// handshake reads handshake messages as they become whole.
func (s *Session) handshake(p []byte) error {
	s.messages = append(s.messages, p...)
	for len(s.messages) >= messageHead {
		size := messageHead + int(binary.BigEndian.Uint32(s.messages)&0xffffff)
		if size > len(s.messages) {
			return nil
		}
		m := s.messages[:size]
		s.messages = s.messages[size:]
		if err := s.message(m[0], m); err != nil {
			return err
		}
	}
	s.messages = nil
	return nil
}

// message reads one, in the one order that there is without certificates of clients.
func (s *Session) message(kind byte, m []byte) error {
	if s.up && kind == newSessionTicket {
		return nil
	}
	if s.up || kind != s.expects {
		return fmt.Errorf("%w %d where %d is due", errMessage, kind, s.expects)
	}
	before := s.transcript.Sum(nil)
	s.transcript.Write(m)
	body := m[messageHead:]
	switch kind {
	case serverHello:
		s.expects = encryptedExts
		return s.hello(body)
	case encryptedExts:
		s.expects = certificate
	case certificate:
		s.expects = certificateVerify
	case certificateVerify:
		s.expects = finished
	case finished:
		return s.finished(body, before)
	}
	return nil
}

// hello reads the ServerHello, from which on records are encrypted.
func (s *Session) hello(body []byte) error {
	share, err := keyShare(body)
	if err != nil {
		return err
	}
	theirs, err := ecdh.X25519().NewPublicKey(share)
	if err != nil {
		return fmt.Errorf("%w: %w", errMessage, err)
	}
	shared, err := s.c.key.ECDH(theirs)
	if err != nil {
		return fmt.Errorf("%w: %w", errMessage, err)
	}
	if s.keys, err = newSchedule(shared, s.transcript.Sum(nil)); err != nil {
		return err
	}
	if s.in, err = newHalf(s.keys.server); err != nil {
		return err
	}
	s.out, err = newHalf(s.keys.client)
	return err
}

// keyShare is that of a ServerHello that has chosen what was offered.
func keyShare(b []byte) ([]byte, error) {
	const session = 2 + randomSize // where the session's length stands
	if len(b) < session+1+int(b[min(session, len(b)-1)])+5 {
		return nil, errMessage
	}
	b = b[session+1+int(b[session]):]
	if suite := binary.BigEndian.Uint16(b); suite != suiteAES128GCM {
		return nil, fmt.Errorf("%w: cipher suite %#x", errMessage, suite)
	}
	version, share := uint16(0), []byte(nil)
	for list := b[5:]; len(list) >= 4; {
		kind, size := binary.BigEndian.Uint16(list), int(binary.BigEndian.Uint16(list[2:]))
		if list = list[4:]; size > len(list) {
			return nil, errMessage
		}
		switch e := list[:size]; {
		case kind == extVersions && size == 2:
			version = binary.BigEndian.Uint16(e)
		case kind == extKeyShare && size > 4 && binary.BigEndian.Uint16(e) == groupX25519:
			share = e[4:]
		}
		list = list[size:]
	}
	if version != version13 {
		return nil, fmt.Errorf("%w: version %#x", errMessage, version)
	}
	return share, nil
}

// finished ends the handshake: with the server's Finished, whose own transcript is before, ours becomes the next flight.
func (s *Session) finished(body, before []byte) error {
	want, err := verify(s.keys.server, before)
	if err != nil {
		return err
	}
	if !hmac.Equal(body, want) {
		return fmt.Errorf("%w: Finished", errMessage)
	}
	whole := s.transcript.Sum(nil)
	own, err := verify(s.keys.client, whole)
	if err != nil {
		return err
	}
	s.flight = s.out.seal(nil, recordHandshake, message(finished, own))
	for _, side := range []struct {
		label string
		half  **half
	}{{"s ap traffic", &s.in}, {"c ap traffic", &s.out}} {
		secret, err := expand(s.keys.master, side.label, whole, hashSize)
		if err != nil {
			return err
		}
		if *side.half, err = newHalf(secret); err != nil {
			return err
		}
	}
	s.up, s.keys, s.transcript = true, nil, nil
	return nil
}
