package passwords

import (
	"crypto/sha256"
	"crypto/subtle"
	"strings"

	"github.com/tg123/go-htpasswd"
)

// plain is a password that is not hashed, by its digest.
type plain [sha256.Size]byte

// acceptPlain reads nginx's {PLAIN}.
func acceptPlain(text string) (htpasswd.EncodedPasswd, error) {
	return plain(sha256.Sum256([]byte(strings.TrimPrefix(text, "{PLAIN}")))), nil
}

// MatchesPassword compares digests: their length says nothing.
func (p plain) MatchesPassword(password string) bool {
	sum := sha256.Sum256([]byte(password))
	return subtle.ConstantTimeCompare(sum[:], p[:]) == 1
}
