package filters

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/passwords"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// The keys of the family.
const (
	authType       = "auth-type"
	authSecret     = "auth-secret"
	authSecretType = "auth-secret-type"
	authRealm      = "auth-realm"
)

// auth is the parsed value of the family; one of the two files is set where it asks for passwords.
type auth struct {
	secret, realm string
	basic         *passwords.File
	digest        *passwords.DigestFile
}

// String returns the value for the text of a Table, without what is secret.
func (v *auth) String() string {
	switch {
	case v.basic != nil:
		return fmt.Sprintf("basic, %d users of %s, realm %q", v.basic.Len(), v.secret, v.realm)
	case v.digest != nil:
		return fmt.Sprintf("digest, %d users of %s, realm %q", v.digest.Len(), v.secret, v.realm)
	}
	return "off"
}

// guard returns text that two values have in common only if they let the same users in. It is secret.
func (v *auth) guard() string {
	switch {
	case v.basic != nil:
		return "basic " + v.realm + "\n" + v.basic.Guard()
	case v.digest != nil:
		return "digest " + v.realm + "\n" + v.digest.Guard()
	}
	return ""
}

// Auth returns the family that asks clients for a name and a password.
func Auth() Policy {
	return &Of[*auth]{
		Of: policy.Of[*auth]{
			Name: "auth",
			Doc: "Asks clients for a name and a password, which are those of a user in a Secret. The Pod does not get the Authorization field. Hashes are slow to " +
				"check, so only few are checked at a time; beyond that the answer is 503. A password that was right is not checked again as long as " +
				"the Secret has the same hash. Routes of no-auth-locations are exempt, and their Pods get the field. Of files for basic authentication the hashes of MD5 ($apr1$, $1$), SHA-1 ({SHA}, {SSHA}), SHA-2 ($5$, $6$) and " +
				"bcrypt ($2y$) are read, and {PLAIN}; a password has 256 bytes at most.",
			Keys:      authKeys(),
			IfInvalid: policy.Deny,
			Resolve:   resolveAuth,
		},
		Extend:   extendAuth,
		Protects: func(_ *router.Route, v *auth) string { return v.guard() },
	}
}

func authKeys() []policy.Key {
	return []policy.Key{
		{
			Name: authType, Kind: policy.String, Default: "none", Example: "basic",
			Doc: "\"basic\" asks for the password with each request (RFC 7617), \"digest\" for a proof of it (RFC 7616). auth-secret says whose.",
			Differs: "digest asks for quality of protection \"auth\", knows SHA-256 too, and refuses a request that is sent again; a client that fails is not " +
				"locked out for a time",
		},
		{
			Name: authSecret, Kind: policy.SecretName, Default: "none", Example: "users",
			Doc:         "The Secret, as name or namespace/name, of the Ingress's own namespace. While it is missing or broken the routes answer 503.",
			Differs:     "without auth-type the route is closed, where ingress-nginx opens it to everyone; hashes of DES are not read; bcrypt's cost may be 14 and SHA-2 may have 500,000 rounds",
			ExampleData: map[string]string{"auth": "alice:$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/\n"},
		},
		{
			Name: authSecretType, Kind: policy.String, Default: "auth-file", Example: "auth-file",
			Doc: "\"auth-file\": the Secret's key \"auth\" is a file that htpasswd or, for digest, htdigest has written. \"auth-map\": its keys are names and its values " +
				"hashes; for digest realm:hash.",
		},
		{
			Name: authRealm, Kind: policy.String, Default: `""`, Example: "Staff only",
			Doc:     "The realm, which browsers show when they ask their user, and which the hashes of digest are made with.",
			Differs: "it is text: variables stand for themselves, and \"off\" does not let everyone in",
		},
	}
}

func resolveAuth(v policy.Values, from policy.Source) (*auth, error) {
	kind, files := v.Text(authType, ""), v.Text(authSecretType, "auth-file")
	a := &auth{secret: v.Text(authSecret, ""), realm: v.Text(authRealm, "")}
	switch {
	case v.Has(authType) && kind != "basic" && kind != "digest":
		return nil, &policy.ValueError{Key: authType, Value: v[authType], Want: `"basic" or "digest"`}
	case files != "auth-file" && files != "auth-map":
		return nil, &policy.ValueError{Key: authSecretType, Value: v[authSecretType], Want: `"auth-file" or "auth-map"`}
	case !isRealm(a.realm):
		return nil, &policy.ValueError{Key: authRealm, Value: v[authRealm], Want: `text of ASCII letters, digits, spaces and signs other than " and \`}
	case v.Has(authSecret) && kind == "":
		return nil, fmt.Errorf("%s: there is no %s: write %s: basic, or digest where the Secret is htdigest's", authSecret, authType, authType)
	case kind == "":
		return a, nil
	case !v.Has(authSecret):
		return nil, fmt.Errorf("%s: there is no %s: write the name of the Secret with the users", authType, authSecret)
	}
	data, err := from.Secret(authSecret)
	if err != nil {
		return nil, err
	}
	if err := a.read(data, kind+" "+files); err != nil {
		return nil, fmt.Errorf("%s: the Secret %q cannot be used: %w", authSecret, a.secret, err)
	}
	return a, nil
}

// read reads the users.
func (v *auth) read(data map[string][]byte, how string) (err error) {
	text, there := data["auth"]
	if !there && strings.HasSuffix(how, " auth-file") {
		return errors.New(`it has no key "auth"`)
	}
	switch how {
	case "basic auth-file":
		v.basic, err = passwords.ParseFile(string(text))
	case "basic auth-map":
		v.basic, err = passwords.ParseMap(data)
	case "digest auth-file":
		v.digest, err = passwords.ParseDigestFile(string(text), v.realm)
	default:
		v.digest, err = passwords.ParseDigestMap(data, v.realm)
	}
	return err
}

// isRealm reports whether text can stand between quotes as it is.
func isRealm(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

func extendAuth(c *Chain, v *auth) {
	rt := c.Runtime.orAlone()
	switch {
	case c.Anonymous:
		return
	case v.basic != nil:
		c.OnAccess(&basicCheck{file: v.basic, verifier: rt.Passwords, challenge: `Basic realm="` + v.realm + `"`})
	case v.digest != nil:
		c.OnAccess(&digestCheck{file: v.digest, nonces: rt.Nonces})
	default:
		return
	}
	// Behind all checks: another one may want to see the field.
	c.OnRequest(withoutAuthorization{})
}

// basicCheck lets in who sends a password (RFC 7617).
type basicCheck struct {
	file      *passwords.File
	verifier  *passwords.Verifier
	challenge string
}

// CheckAccess judges the password of the request.
func (b *basicCheck) CheckAccess(x *exchange.Exchange) Access {
	at := len(x.Scratch)
	defer func() {
		clear(x.Scratch[at:])
		x.Scratch = x.Scratch[:at]
	}()
	if user, password, ok := credentials(x); ok {
		switch b.verifier.Verify(b.file, x.Client.Addr, user, password) {
		case passwords.Right:
			return Allowed
		case passwords.Busy:
			x.Answer(statusUnavailable, exchange.Overload, "too many passwords to check\n")
			x.Response.Fields.SetString(exchange.RetryAfter, "1")
			return Failed
		case passwords.Wrong:
		}
	}
	unauthorized(x)
	x.Response.Fields.SetString(exchange.WWWAuthenticate, b.challenge)
	return Unauthorized
}

// digestCheck lets in who proves to know a password (RFC 7616).
type digestCheck struct {
	file   *passwords.DigestFile
	nonces *passwords.Nonces
}

// CheckAccess judges the proof of the request.
func (d *digestCheck) CheckAccess(x *exchange.Exchange) Access {
	proof := passwords.NotProven
	if text, ok := after(x.Request.Fields.Get(exchange.Authorization), "digest "); ok {
		if answer, err := passwords.ParseAnswer(string(text)); err == nil {
			asked := passwords.Asked{Method: string(x.Request.Method), Target: string(x.Request.Target), Now: x.Timing.Start}
			if asked.Peek = x.Rehearsal != nil; asked.Peek {
				x.Rehearsal.Note("the proof was not used up")
			}
			if proof = d.nonces.Verify(d.file, &answer, asked); proof == passwords.Proven {
				x.Request.User = append(x.Request.User[:0], answer.User...)
				return Allowed
			}
		}
	}
	unauthorized(x)
	for _, challenge := range d.file.Challenges(d.nonces.New(x.Timing.Start), proof) {
		x.Response.Fields.AddString("WWW-Authenticate", challenge)
	}
	return Unauthorized
}

// unauthorized answers 401.
func unauthorized(x *exchange.Exchange) {
	x.Answer(statusUnauthorized, exchange.Unauthorized, "401 Authorization Required\n")
}

// withoutAuthorization keeps from the Pod what the client proves its identity with. Who it says that it is stays known: for the log.
type withoutAuthorization struct{}

// FilterRequest removes the field.
func (withoutAuthorization) FilterRequest(x *exchange.Exchange) exchange.Verdict {
	if len(x.Request.User) == 0 {
		at := len(x.Scratch)
		if user, _, ok := credentials(x); ok {
			x.Request.User = append(x.Request.User[:0], user...)
		}
		clear(x.Scratch[at:])
		x.Scratch = x.Scratch[:at]
	}
	x.Request.Fields.Del(exchange.Authorization)
	return exchange.Continue
}

// after returns what follows a prefix in any case, without white space before it.
func after(value []byte, prefix string) ([]byte, bool) {
	if len(value) < len(prefix) || !exchange.EqualFold(value[:len(prefix)], prefix) {
		return nil, false
	}
	return bytes.TrimLeft(value[len(prefix):], " "), true
}

// credentials returns the name and password that the client sends, in x.Scratch behind its end. As in nginx there must be a name.
func credentials(x *exchange.Exchange) (user, password []byte, ok bool) {
	encoded, ok := after(x.Request.Fields.Get(exchange.Authorization), "basic ")
	if !ok {
		return nil, nil, false
	}
	encoded = bytes.TrimRight(encoded, "=")
	at := len(x.Scratch)
	decoded, err := base64.RawStdEncoding.AppendDecode(x.Scratch, encoded)
	x.Scratch = decoded
	user, password, ok = bytes.Cut(decoded[at:], []byte{':'})
	return user, password, ok && err == nil && len(user) > 0
}
