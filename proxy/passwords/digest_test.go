package passwords_test

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/proxy/passwords"
)

// hashed is the hash of text, in hexadecimal digits.
func hashed(a passwords.Algorithm, text string) string {
	if a == passwords.SHA256 {
		sum := sha256.Sum256([]byte(text))
		return hex.EncodeToString(sum[:])
	}
	sum := md5.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}

// client answers challenges by RFC 7616 section 3.4.1, written apart from what is tested.
type client struct {
	algorithm             passwords.Algorithm
	user, realm, password string
	nonce, uri, method    string
	nc                    int
}

func (c client) answer() string {
	nc, cnonce := fmt.Sprintf("%08x", c.nc), "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
	a1 := hashed(c.algorithm, c.user+":"+c.realm+":"+c.password)
	response := hashed(c.algorithm, strings.Join([]string{a1, c.nonce, nc, cnonce, "auth", hashed(c.algorithm, c.method+":"+c.uri)}, ":"))
	return fmt.Sprintf(`username="%s", realm="%s", uri="%s", algorithm=%s, nonce="%s", nc=%s, cnonce="%s", qop=auth, response="%s"`,
		c.user, c.realm, c.uri, c.algorithm, c.nonce, nc, cnonce, response)
}

func digestFile(t testing.TB) *passwords.DigestFile {
	t.Helper()
	f, err := passwords.ParseDigestFile("# users\nMufasa:http-auth@example.org:"+hashed(passwords.MD5, "Mufasa:http-auth@example.org:Circle of Life")+
		"\nMufasa:http-auth@example.org:"+hashed(passwords.SHA256, "Mufasa:http-auth@example.org:Circle of Life")+
		"\nScar:elsewhere:"+hashed(passwords.MD5, "Scar:elsewhere:x")+"\n", "http-auth@example.org")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestExampleOfTheRFC: the fields of RFC 7616 section 3.9.1 say what that section says they do.
func TestExampleOfTheRFC(t *testing.T) {
	t.Parallel()
	for algorithm, want := range map[passwords.Algorithm]string{
		passwords.MD5:    "8ca523f5e9506fed4657c9700eebdbec",
		passwords.SHA256: "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
	} {
		c := client{algorithm, "Mufasa", "http-auth@example.org", "Circle of Life", "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", "/dir/index.html", "GET", 1}
		if text := c.answer(); !strings.Contains(text, want) {
			t.Errorf("%s", text)
		}
	}
}

func TestDigest(t *testing.T) {
	t.Parallel()
	f, start := digestFile(t), time.Now()
	n := passwords.NewNonces(start)
	for name, c := range map[string]struct {
		change    func(*client)
		edit      func(string) string
		after     time.Duration
		target    string
		want      passwords.Proof
		malformed bool
	}{
		"right":                  {want: passwords.Proven},
		"SHA-256":                {change: func(c *client) { c.algorithm = passwords.SHA256 }, want: passwords.Proven},
		"of another method":      {change: func(c *client) { c.method = "POST" }},
		"for another target":     {target: "/other"},
		"for all of the URL":     {change: func(c *client) { c.uri = "http://a.example/a?b=c" }, want: passwords.Proven},
		"for another URL":        {change: func(c *client) { c.uri = "http://a.example/a?b=d" }},
		"wrong password":         {change: func(c *client) { c.password = "circle of life" }},
		"nobody":                 {change: func(c *client) { c.user = "Simba" }},
		"nobody with no hash":    {change: func(c *client) { c.user = "Scar" }},
		"another realm":          {change: func(c *client) { c.realm = "elsewhere"; c.user, c.password = "Scar", "x" }},
		"late":                   {after: passwords.NonceLife + time.Second, want: passwords.Stale},
		"in time":                {after: passwords.NonceLife - time.Second, want: passwords.Proven},
		"late and wrong":         {after: time.Hour, change: func(c *client) { c.password = "x" }},
		"a nonce of its own":     {change: func(c *client) { c.nonce = "AAAA" }, want: passwords.Stale},
		"a nonce that is longer": {change: func(c *client) { c.nonce += "A" }, want: passwords.Stale},
		"a nonce of others":      {change: func(c *client) { c.nonce = passwords.NewNonces(start).New(start) }, want: passwords.Stale},
		"count 0":                {change: func(c *client) { c.nc = 0 }, want: passwords.Stale},
		"spaces and quotes": {edit: func(s string) string {
			s = strings.Replace(s, "qop=auth", `qop="auth"`, 1)
			return strings.ReplaceAll(s, ", ", " ,\t") + ","
		}, want: passwords.Proven},
		"names in capitals":     {edit: func(s string) string { return strings.Replace(s, "username=", "USERNAME = ", 1) }, want: passwords.Proven},
		"escapes":               {edit: func(s string) string { return strings.Replace(s, "Mufasa", `Muf\asa`, 1) }, want: passwords.Proven},
		"no algorithm is MD5":   {edit: func(s string) string { return strings.Replace(s, "algorithm=MD5, ", "", 1) }, want: passwords.Proven},
		"an unknown algorithm":  {edit: func(s string) string { return strings.Replace(s, "algorithm=MD5", "algorithm=MD5-sess", 1) }},
		"a parameter twice":     {edit: func(s string) string { return s + `, username="Mufasa"` }, malformed: true},
		"no quality":            {edit: func(s string) string { return strings.Replace(s, "qop=auth, ", "", 1) }, malformed: true},
		"quality auth-int":      {edit: func(s string) string { return strings.Replace(s, "qop=auth", "qop=auth-int", 1) }, malformed: true},
		"no count":              {edit: func(s string) string { return strings.Replace(s, "nc=00000001, ", "", 1) }, malformed: true},
		"a count of nine":       {edit: func(s string) string { return strings.Replace(s, "nc=00000001", "nc=000000001", 1) }, malformed: true},
		"a quote that is open":  {edit: func(s string) string { return s[:len(s)-1] }, malformed: true},
		"no comma":              {edit: func(s string) string { return strings.Replace(s, ", ", " ", 1) }, malformed: true},
		"no response":           {edit: func(s string) string { return s[:strings.Index(s, ", response")] }},
		"an empty response":     {edit: func(s string) string { return s[:strings.Index(s, "response")] + `response=""` }},
		"a response in capital": {edit: func(s string) string { i := strings.Index(s, "response") + 8; return s[:i] + strings.ToUpper(s[i:]) }, want: passwords.Proven},
	} {
		now := start.Add(time.Minute)
		one := client{passwords.MD5, "Mufasa", "http-auth@example.org", "Circle of Life", n.New(now), "/a?b=c", "GET", 1}
		if c.change != nil {
			c.change(&one)
		}
		text := one.answer()
		if c.edit != nil {
			text = c.edit(text)
		}
		a, err := passwords.ParseAnswer(text)
		if (err != nil) != c.malformed {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
		if err != nil {
			continue
		}
		target := "/a?b=c"
		if c.target != "" {
			target = c.target
		}
		got := n.Verify(f, &a, passwords.Asked{Method: "GET", Target: target, Now: now.Add(c.after)})
		if got != c.want {
			t.Errorf("%s: %v; want %v\n%s", name, got, c.want, text)
		}
		if again := n.Verify(f, &a, passwords.Asked{Method: "GET", Target: target, Now: now.Add(c.after)}); got == passwords.Proven && again != passwords.Stale {
			t.Errorf("%s: passes twice", name)
		}
	}
}

// TestCounts compares with a set of what was used.
func TestCounts(t *testing.T) {
	t.Parallel()
	now := time.Now()
	n := passwords.NewNonces(now)
	nonce := n.New(now)
	used, highest := map[uint32]bool{}, uint32(0)
	for i := range uint32(20_000) {
		count := highest + i*2654435761%200
		if count = max(count, 130) - 130; i%7 == 0 {
			count = highest + 1
		}
		want := count > 0 && !used[count] && count+64 >= highest
		if got := passwords.Use(n, nonce, count, now); got != want {
			t.Fatalf("count %d, the highest %d: %v, want %v", count, highest, got, want)
		}
		used[count] = used[count] || want
		if want {
			highest = max(highest, count)
		}
	}
	if highest < 1000 {
		t.Errorf("the highest count is %d", highest)
	}
}

// TestNoncesAreForgottenButNotUsedAgain has more nonces in use than are remembered.
func TestNoncesAreForgottenButNotUsedAgain(t *testing.T) {
	t.Parallel()
	now := time.Now()
	n := passwords.NewNonces(now)
	var nonces []string
	for range passwords.MaxNonces + 10 {
		nonces = append(nonces, n.New(now))
		if !passwords.Use(n, nonces[len(nonces)-1], 1, now) {
			t.Fatal("a new nonce cannot be used")
		}
	}
	for i, nonce := range nonces {
		if passwords.Use(n, nonce, 1, now) {
			t.Fatalf("nonce %d is used twice", i)
		}
	}
	if passwords.Use(n, nonces[0], 2, now) {
		t.Error("a forgotten nonce is used")
	}
	if !passwords.Use(n, nonces[len(nonces)-1], 2, now) || !passwords.Use(n, n.New(now), 1, now) {
		t.Error("a nonce that is remembered, or new, is refused")
	}
}

func TestDigestFilesThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                      `it names no users of the realm "r"`,
		"a:other:" + strings.Repeat("0", 32):    `it names no users of the realm "r"`,
		"a:r:" + strings.Repeat("0", 31):        "line 1: it is not user:realm:hash",
		"a:r:" + strings.Repeat("g", 32):        "line 1: it is not user:realm:hash",
		"\na:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=": "line 2: it is not user:realm:hash",
		":r:" + strings.Repeat("0", 32):         "line 1: it is not user:realm:hash",
	} {
		if f, err := passwords.ParseDigestFile(text, "r"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v %v, want %q", text, f, err, want)
		}
	}
	f, err := passwords.ParseDigestMap(map[string][]byte{"a": []byte("r:" + strings.Repeat("A", 64) + "\n")}, "r")
	if err != nil || f.Len() != 1 {
		t.Fatal(f, err)
	}
	if got := f.Challenges("n", passwords.Stale); len(got) != 1 || got[0] != `Digest realm="r", qop="auth", algorithm=SHA-256, nonce="n", stale=true` {
		t.Errorf("%q", got)
	}
}

func FuzzParseAnswer(f *testing.F) {
	c := client{passwords.MD5, "Mufasa", "http-auth@example.org", "x", "n", "/", "GET", 1}
	f.Add(c.answer())
	f.Add(`username="a\"b", nc=00000001,,cnonce=x ,qop="auth" , x=`)
	file := digestFile(f)
	n := passwords.NewNonces(time.Now())
	f.Fuzz(func(t *testing.T, text string) {
		a, err := passwords.ParseAnswer(text)
		if err != nil {
			return
		}
		if n.Verify(file, &a, passwords.Asked{Method: "GET", Target: "/", Now: time.Now()}) != passwords.NotProven {
			t.Fatalf("%q passes", text)
		}
	})
}
