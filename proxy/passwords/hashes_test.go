package passwords_test

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"podlane.dev/podlane/proxy/passwords"
)

// secrets are the passwords of testdata/hashes.txt.
var secrets = []string{"secret", "", "päss w:rd", strings.Repeat("x", 72), strings.Repeat("y", 200)}

// hash is one line of testdata/hashes.txt.
type hash struct {
	text, password string
}

func hashes(t testing.TB) []hash {
	t.Helper()
	data, err := os.ReadFile("testdata/hashes.txt")
	if err != nil {
		t.Fatal(err)
	}
	var list []hash
	for line := range strings.Lines(string(data)) {
		index, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		if i, err := strconv.Atoi(index); err == nil {
			list = append(list, hash{text, secrets[i]})
		}
	}
	for _, s := range secrets {
		sum := sha1.Sum([]byte(s))
		salted := sha1.Sum([]byte(s + "salt"))
		list = append(list,
			hash{"{SHA}" + base64.StdEncoding.EncodeToString(sum[:]), s},
			hash{"{SSHA}" + base64.StdEncoding.EncodeToString(append(salted[:], "salt"...)), s})
		if s != "" && !strings.Contains(s, ":") {
			list = append(list, hash{"{PLAIN}" + s, s})
		}
	}
	return list
}

// TestHashes: of every hash its password is right, and all others are wrong.
func TestHashes(t *testing.T) {
	t.Parallel()
	list := hashes(t)
	if len(list) < 60 {
		t.Fatalf("%d hashes", len(list))
	}
	v := passwords.NewVerifier(2)
	for i, h := range list {
		f, err := passwords.ParseFile(fmt.Sprintf("# users\nu:%s\n", h.text))
		if err != nil {
			t.Errorf("%s: %v", h.text, err)
			continue
		}
		for _, s := range secrets {
			want := passwords.Wrong
			if s == h.password {
				want = passwords.Right
			}
			if want != passwords.Right && s != "" && i%3 != 0 {
				continue // not all of them: hashes are slow
			}
			if got := v.Verify(f, home, []byte("u"), []byte(s)); got != want {
				t.Errorf("%d %s: %.10q: %v, want %v", i, h.text, s, got, want)
			}
		}
		if got := v.Verify(f, home, []byte("nobody"), []byte(h.password)); got != passwords.Wrong {
			t.Errorf("%s: a stranger with %.10q: %v", h.text, h.password, got)
		}
	}
}

func TestFilesAreReadAsNginxDoes(t *testing.T) {
	t.Parallel()
	const a, b = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "{SHA}AAAAAAAAAAAAAAAAAAAAAAAAAAA=" // of "secret", of nothing known
	v := passwords.NewVerifier(1)
	for _, c := range []struct {
		text string
		want passwords.Result
	}{
		{"alice:" + a, passwords.Right},
		{"alice:" + a + ":a comment: or two\r\n", passwords.Right},
		{"\r\n\n# alice:" + b + "\nno user here\nbob:" + b + "\nalice:" + a + " \n", passwords.Right},
		{"alice:" + b + "\nalice:" + a, passwords.Wrong}, // the first is the one
		{"bob:" + a, passwords.Wrong},
		{"Alice:" + a, passwords.Wrong},
		{" alice:" + a, passwords.Wrong},
	} {
		f, err := passwords.ParseFile(c.text)
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		if got := v.Verify(f, home, []byte("alice"), []byte("secret")); got != c.want {
			t.Errorf("%q: %v, want %v", c.text, got, c.want)
		}
	}
	f, err := passwords.ParseMap(map[string][]byte{"alice": []byte(a + "\n"), "bob": []byte(b)})
	if err != nil || f.Len() != 2 {
		t.Fatal(f, err)
	}
	if got := v.Verify(f, home, []byte("alice"), []byte("secret")); got != passwords.Right {
		t.Errorf("of a map: %v", got)
	}
}

func TestFilesThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	bcrypt := "abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"
	for text, want := range map[string]string{
		"":                                   "it names no users",
		"# alice:x\n\njust text\n":           "it names no users",
		":{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=": "line 1: there is no name before the colon",
		"ok:{PLAIN}x\nalice:secret":          "line 2: there is no hash",
		"alice:":                             "there is no hash",
		"alice:abNANd1rDfiNc":                "there is no hash", // DES
		"alice:{SHA}short":                   "there is no hash",
		"alice:{SSHA}c2hvcnQ=":               "there is no hash",
		"alice:{PLAIN}":                      "there is no hash",
		"alice:$2y$15$" + bcrypt:             "cost 15, and may have 14",
		"alice:$2y$04$" + bcrypt[1:]:         "there is no hash",
		"alice:$2x$04$" + bcrypt:             "there is no hash",
		"alice:$5$rounds=500001$s$" + strings.Repeat("a", 43): "rounds 500001, and may have 500000",
		"alice:$5$rounds=x$s$" + strings.Repeat("a", 43):      "there is no hash",
		"alice:$6$s$" + strings.Repeat("a", 85):               "there is no hash",
		"alice:$apr1$toolongsalt$" + strings.Repeat("a", 22):  "there is no hash",
		"alice:$7$x$y": "there is no hash",
	} {
		f, err := passwords.ParseFile(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v %v, want %q", text, f, err, want)
		}
		if err != nil && strings.Contains(err.Error(), bcrypt[20:]) {
			t.Errorf("%q: the error shows the hash: %v", text, err)
		}
	}
}

// TestGuard: what is compared of files differs where users or hashes do.
func TestGuard(t *testing.T) {
	t.Parallel()
	guard := func(text string) string {
		f, err := passwords.ParseFile(text)
		if err != nil {
			t.Fatal(err)
		}
		return f.Guard()
	}
	if a, b := guard("a:{PLAIN}x\nb:{PLAIN}y"), guard("# other\nb:{PLAIN}y\na:{PLAIN}x\n"); a != b {
		t.Errorf("%q, %q", a, b)
	}
	if a, b := guard("a:{PLAIN}x"), guard("a:{PLAIN}y"); a == b {
		t.Errorf("%q twice", a)
	}
}

func FuzzParseFile(f *testing.F) {
	for _, h := range hashes(f) {
		f.Add("u:"+h.text, "secret")
	}
	f.Add("a:$6$rounds=1000$$", "x")
	v := passwords.NewVerifier(1)
	f.Fuzz(func(t *testing.T, text, password string) {
		if strings.Contains(text, "$2") || strings.Contains(text, "rounds") {
			t.Skip("slow by design")
		}
		file, err := passwords.ParseFile(text)
		if err != nil {
			return
		}
		if file.Len() == 0 {
			t.Fatal("no users, and no error")
		}
		name, _, _ := strings.Cut(text, ":")
		v.Verify(file, home, []byte(name), []byte(password)) // whatever is read can be checked
	})
}

func BenchmarkParseFile(b *testing.B) {
	var file strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&file, "user%d:$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n", i)
	}
	for b.Loop() {
		if f, err := passwords.ParseFile(file.String()); err != nil || f.Len() != 1000 {
			b.Fatal(f, err)
		}
	}
}
