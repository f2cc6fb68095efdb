package passwords

import (
	"crypto/md5"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"maps"
	"slices"
	"strings"
	"time"
)

// Algorithm is a hash of digest authentication.
type Algorithm string

// The algorithms, as RFC 7616 writes them. MD5 is what htdigest writes.
const (
	MD5    Algorithm = "MD5"
	SHA256 Algorithm = "SHA-256"
)

func (a Algorithm) new() hash.Hash {
	if a == SHA256 {
		return sha256.New()
	}
	return md5.New()
}

// DigestFile is the users of one realm of a file of htdigest's. It is immutable.
type DigestFile struct {
	realm string
	// secrets are the hashes of user:realm:password, in hexadecimal digits, by algorithm and user.
	secrets map[Algorithm]map[string]string
	users   int
}

// ParseDigestFile reads lines of user:realm:hash, of which those of other realms count for nothing. The hash is of MD5 or, with 64 digits, of SHA-256.
func ParseDigestFile(text, realm string) (*DigestFile, error) {
	return newDigestFile(linesOf(text), realm)
}

// ParseDigestMap reads users from the keys of a Secret, whose values are realm:hash.
func ParseDigestMap(data map[string][]byte, realm string) (*DigestFile, error) {
	return newDigestFile(linesOfMap(data), realm)
}

func newDigestFile(lines []line, realm string) (*DigestFile, error) {
	f := &DigestFile{realm: realm, secrets: map[Algorithm]map[string]string{}}
	for _, l := range lines {
		of, secret, ok := strings.Cut(l.rest, ":")
		secret = strings.ToLower(strings.TrimSpace(secret))
		algorithm := MD5
		if len(secret) == hex.EncodedLen(sha256.Size) {
			algorithm = SHA256
		}
		if digest, err := hex.DecodeString(secret); !ok || err != nil || len(digest) != algorithm.new().Size() || l.name == "" {
			return nil, fmt.Errorf("%s: it is not user:realm:hash, which htdigest writes", l.where)
		}
		if of != realm {
			continue
		}
		if f.secrets[algorithm] == nil {
			f.secrets[algorithm] = map[string]string{}
		}
		if f.secrets[algorithm][l.name] == "" {
			f.secrets[algorithm][l.name] = secret
			f.users++
		}
	}
	if f.users == 0 {
		return nil, fmt.Errorf("it names no users of the realm %q", realm)
	}
	return f, nil
}

// Len is the number of users.
func (f *DigestFile) Len() int { return f.users }

// Guard returns text that two files have in common only if they have the same users and hashes. It is secret.
func (f *DigestFile) Guard() string {
	var b strings.Builder
	for _, algorithm := range slices.Sorted(maps.Keys(f.secrets)) {
		for _, user := range slices.Sorted(maps.Keys(f.secrets[algorithm])) {
			fmt.Fprintf(&b, "%s:%q:%q:%s\n", algorithm, user, f.realm, f.secrets[algorithm][user])
		}
	}
	return b.String()
}

// Challenges are the values of WWW-Authenticate for nonce, the better algorithm first (RFC 7616 section 3.7), after what came of an answer.
func (f *DigestFile) Challenges(nonce string, p Proof) []string {
	var list []string
	for _, algorithm := range [...]Algorithm{SHA256, MD5} {
		if f.secrets[algorithm] == nil {
			continue
		}
		text := fmt.Sprintf(`Digest realm="%s", qop="auth", algorithm=%s, nonce="%s"`, f.realm, algorithm, nonce)
		if p == Stale {
			text += ", stale=true"
		}
		list = append(list, text)
	}
	return list
}

// Answer is what a client says to a challenge.
type Answer struct {
	User, realm, nonce, uri, response, cnonce, nc string
	algorithm                                     Algorithm
	count                                         uint32
}

var errAnswer = errors.New("not an answer to a digest challenge")

// ParseAnswer reads what follows "Digest" in an Authorization field. Quality of protection "auth" is the only one: without it nothing tells one request from
// the next.
func ParseAnswer(text string) (Answer, error) {
	a := Answer{algorithm: MD5}
	var algorithm, quality string
	fields := map[string]*string{
		"username": &a.User, "realm": &a.realm, "nonce": &a.nonce, "uri": &a.uri, "response": &a.response, "cnonce": &a.cnonce, "nc": &a.nc,
		"algorithm": &algorithm, "qop": &quality,
	}
	seen := map[string]bool{}
	for rest := strings.TrimLeft(text, " \t,"); rest != ""; {
		name, value, after, ok := parameter(rest)
		if name = strings.ToLower(name); !ok || seen[name] {
			return Answer{}, errAnswer
		}
		seen[name], rest = true, after
		if field := fields[name]; field != nil {
			*field = value
		}
	}
	if algorithm != "" {
		a.algorithm = Algorithm(strings.ToUpper(algorithm))
	}
	a.response = strings.ToLower(a.response)
	count, err := hex.DecodeString(a.nc)
	if err != nil || len(count) != 4 || quality != "auth" || a.User == "" || a.cnonce == "" {
		return Answer{}, errAnswer
	}
	a.count = binary.BigEndian.Uint32(count)
	return a, nil
}

// parameter reads name=value, where the value is a token or quoted, and what separates it from the next.
func parameter(text string) (name, value, rest string, ok bool) {
	name, text, ok = strings.Cut(text, "=")
	name, text = strings.TrimRight(name, " \t"), strings.TrimLeft(text, " \t")
	if !ok || name == "" || strings.ContainsAny(name, " \t,\"") {
		return "", "", "", false
	}
	if !strings.HasPrefix(text, `"`) {
		end := strings.IndexAny(text, ", \t")
		if end < 0 {
			end = len(text)
		}
		value, rest = text[:end], text[end:]
		if strings.Contains(value, `"`) {
			return "", "", "", false
		}
	} else if value, rest, ok = unquote(text[1:]); !ok {
		return "", "", "", false
	}
	next := strings.TrimLeft(rest, " \t")
	if next != "" && next[0] != ',' {
		return "", "", "", false
	}
	return name, value, strings.TrimLeft(next, " \t,"), true
}

// unquote reads a quoted text up to its end.
func unquote(text string) (value, rest string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '"':
			return b.String(), text[i+1:], true
		case '\\':
			i++
			if i == len(text) {
				return "", "", false
			}
			b.WriteByte(text[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", false
}

// Asked is the request that an Answer comes with.
type Asked struct {
	Method, Target string
	Now            time.Time
	// Peek leaves the count of the nonce unused.
	Peek bool
}

// Proof is what an Answer proves.
type Proof uint8

// The proofs. Stale is an answer in which everything is right but that the nonce is old or was used before, so that the client may answer a new one
// without asking its user.
const (
	NotProven Proof = iota
	Stale
	Proven
)

// Verify returns what a proves for that request. A user that is not there costs what one costs that is.
func (n *Nonces) Verify(f *DigestFile, a *Answer, q Asked) Proof {
	secret, there := f.secrets[a.algorithm][a.User]
	known := a.algorithm == MD5 || a.algorithm == SHA256
	h := func(text string) string {
		d := a.algorithm.new()
		_, _ = d.Write([]byte(text)) // a hash takes everything
		return hex.EncodeToString(d.Sum(nil))
	}
	want := h(secret + ":" + a.nonce + ":" + a.nc + ":" + a.cnonce + ":auth:" + h(q.Method+":"+a.uri))
	if subtle.ConstantTimeCompare([]byte(want), []byte(a.response)) != 1 || !there || !known || a.realm != f.realm || !sameTarget(a.uri, q.Target) {
		return NotProven
	}
	// Only who knows the password takes memory.
	if !n.use(a.nonce, a.count, q) {
		return Stale
	}
	return Proven
}

// sameTarget reports whether what the client signed is what it asked for. Some write all of the URL.
func sameTarget(uri, target string) bool {
	if _, after, ok := strings.Cut(uri, "://"); ok && !strings.HasPrefix(uri, "/") {
		_, path, _ := strings.Cut(after, "/")
		uri = "/" + path
	}
	return uri == target
}
