// Package passwords tells whether a name and a password, or an answer to a digest challenge, are those of a user. It owns the formats of password files, the
// bound on what checking passwords may cost, and the memory of nonces. It must not know what a request is, or what is done with a stranger.
package passwords

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/tg123/go-htpasswd"
)

// The bounds of what a hash may cost. Whoever writes the file spends the time of a process that others share: at the highest cost a password takes
// about a second.
const (
	maxCost   = 14      // of bcrypt
	maxRounds = 500_000 // of SHA-crypt
	// maxPassword is the length of a password in bytes: SHA-crypt takes time by the square of it.
	maxPassword = 256
)

// File is the users of a password file and the hashes of their passwords. It is immutable.
type File struct {
	users map[string]*entry
	// list are the same in the order of their names.
	list []*entry
}

// entry is one user.
type entry struct {
	user, text string
	hash       htpasswd.EncodedPasswd
	// label is what codes begin with: the text and a zero, which no text has.
	label []byte
	// cheap says that a check takes a microsecond, and not many.
	cheap bool
}

// Len is the number of users.
func (f *File) Len() int { return len(f.list) }

// Guard returns text that two files have in common only if they have the same users and hashes. It is secret.
func (f *File) Guard() string {
	var b strings.Builder
	for _, e := range f.list {
		fmt.Fprintf(&b, "%q:%q\n", e.user, e.text)
	}
	return b.String()
}

// ParseFile reads a password file as htpasswd writes it: lines of name:hash. As in nginx lines that begin with # and lines without a colon are none, what
// follows a second colon counts for nothing, and the first of two users of one name is the one.
func ParseFile(text string) (*File, error) {
	return newFile(linesOf(text))
}

// ParseMap reads users from the keys of a Secret, whose values are hashes.
func ParseMap(data map[string][]byte) (*File, error) {
	return newFile(linesOfMap(data))
}

// line is one line of a file: its number, what is before the first colon and what is behind it.
type line struct {
	where, name, rest string
}

func linesOf(text string) []line {
	var lines []line
	number := 0
	for l := range strings.Lines(text) {
		number++
		name, rest, ok := strings.Cut(strings.TrimRight(l, "\r\n"), ":")
		if ok && !strings.HasPrefix(l, "#") {
			lines = append(lines, line{fmt.Sprintf("line %d", number), name, rest})
		}
	}
	return lines
}

func linesOfMap(data map[string][]byte) []line {
	var lines []line
	for _, name := range slices.Sorted(maps.Keys(data)) {
		lines = append(lines, line{fmt.Sprintf("user %q", name), name, strings.TrimSpace(string(data[name]))})
	}
	return lines
}

var errNoUsers = errors.New("it names no users")

func newFile(lines []line) (*File, error) {
	f, known := &File{users: map[string]*entry{}}, formats()
	for _, l := range lines {
		text, _, _ := strings.Cut(l.rest, ":")
		e, err := newEntry(known, l.name, strings.TrimRight(text, " \t"))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.where, err)
		}
		if f.users[l.name] == nil {
			f.users[l.name] = e
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.users)) {
		f.list = append(f.list, f.users[name])
	}
	if len(f.list) == 0 {
		return nil, errNoUsers
	}
	return f, nil
}

// format is one way of writing a hash. The library is handed nothing but what has the form: it takes more, and panics at some of it.
type format struct {
	form  *regexp.Regexp
	parse htpasswd.PasswdParser
	cheap bool
	// cost returns an error where the numbers in the groups of the form cost too much.
	cost func(number string) error
}

func formats() []format {
	bounded := func(what string, most int) func(string) error {
		return func(number string) error {
			if n, err := strconv.Atoi(number); number != "" && (err != nil || n > most) {
				return fmt.Errorf("the hash has %s %s, and may have %d: it would take others' time", what, number, most)
			}
			return nil
		}
	}
	whole := func(form string) *regexp.Regexp { return regexp.MustCompile(`\A(?:` + form + `)\z`) }
	return []format{
		{form: whole(`\$apr1\$[./0-9A-Za-z]{0,8}\$[./0-9A-Za-z]{22}`), parse: htpasswd.AcceptMd5},
		{form: whole(`\$1\$[./0-9A-Za-z]{0,8}\$[./0-9A-Za-z]{22}`), parse: htpasswd.AcceptMd5},
		{form: whole(`\$2[aby]\$(0[4-9]|[1-3][0-9])\$[./0-9A-Za-z]{53}`), parse: htpasswd.AcceptBcrypt, cost: bounded("cost", maxCost)},
		{form: whole(`\$5\$(?:rounds=([1-9][0-9]{3,8})\$)?[^$:\s]{1,16}\$[./0-9A-Za-z]{43}`), parse: htpasswd.AcceptCryptSha, cost: bounded("rounds", maxRounds)},
		{form: whole(`\$6\$(?:rounds=([1-9][0-9]{3,8})\$)?[^$:\s]{1,16}\$[./0-9A-Za-z]{86}`), parse: htpasswd.AcceptCryptSha, cost: bounded("rounds", maxRounds)},
		{form: whole(`\{SHA\}[+/0-9A-Za-z]{27}=`), parse: htpasswd.AcceptSha, cheap: true},
		{form: whole(`\{SSHA\}[+/0-9A-Za-z]+={0,2}`), parse: htpasswd.AcceptSsha, cheap: true},
		{form: whole(`\{PLAIN\}.+`), parse: acceptPlain, cheap: true},
	}
}

var errForm = errors.New("there is no hash that can be checked: write what htpasswd -B writes; MD5 ($apr1$, $1$), SHA-1 ({SHA}, {SSHA}), SHA-2 ($5$, $6$), bcrypt ($2y$) and {PLAIN} are read")

func newEntry(known []format, user, text string) (*entry, error) {
	if user == "" {
		return nil, errors.New("there is no name before the colon")
	}
	for _, f := range known {
		groups := f.form.FindStringSubmatch(text)
		if groups == nil {
			continue
		}
		if f.cost != nil {
			if err := f.cost(groups[1]); err != nil {
				return nil, err
			}
		}
		hash, err := f.parse(text)
		if err != nil || hash == nil {
			return nil, errForm // not err, which holds the hash
		}
		return &entry{user, text, hash, append([]byte(text), 0), f.cheap}, nil
	}
	return nil, errForm
}
