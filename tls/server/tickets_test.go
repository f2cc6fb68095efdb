package server_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/tls/certs"
	"podlane.dev/podlane/tls/server"
)

// keysOf returns ticket keys that are made of letters.
func keysOf(t testing.TB, letters string) *router.TicketKeys {
	t.Helper()
	var texts [][]byte
	for _, c := range []byte(letters) {
		texts = append(texts, bytes.Repeat([]byte{c}, 80))
	}
	keys, err := router.ParseTicketKeys(texts...)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// replica returns the Config of one of several replicas, which have their certificates in common.
func replica(t testing.TB, store *certs.Store, keys *router.TicketKeys, hosts map[string]*router.TLSPolicy) *tls.Config {
	t.Helper()
	return newConfig(t, store, server.Options{Table: tableWith(keys, hosts)})
}

// versions are the TLS versions, whose tickets work differently.
var versions = []uint16{tls.VersionTLS12, tls.VersionTLS13}

// visits returns a function that visits a replica with one client, whose sessions are kept, and reports whether one was resumed.
func visits(t testing.TB, version uint16, name string, pair *tls.Certificate) func(*tls.Config) (resumed bool) {
	t.Helper()
	own := client(func(c *tls.Config) {
		c.ServerName, c.MaxVersion, c.ClientSessionCache = name, version, tls.NewLRUClientSessionCache(1)
		if pair != nil {
			c.Certificates = []tls.Certificate{*pair}
		}
	})
	h := server.NewHandshaker(server.HandshakerOptions{})
	return func(theirs *tls.Config) bool {
		t.Helper()
		state, err, clientErr := connect(t, h, theirs, own)
		if err != nil || clientErr != nil {
			t.Fatalf("%v, %v", err, clientErr)
		}
		return state.DidResume
	}
}

// TestSharedKeys: a session goes on at every replica, through a rotation in which the new key comes last, then first.
func TestSharedKeys(t *testing.T) {
	root := issue(t, nil, "root", authority)
	leaf := issue(t, root, "leaf", nil).pair()
	p := func() *router.TLSPolicy { return policyOf(router.VerifyOn, trust(nil, root)) } // each replica has read the Secret for itself
	store := storeFor(t, certs.Options{})
	for _, version := range versions {
		for name, hosts := range map[string]func() map[string]*router.TLSPolicy{
			"plain":  func() map[string]*router.TLSPolicy { return nil },
			"policy": func() map[string]*router.TLSPolicy { return map[string]*router.TLSPolicy{"a.test": p()} },
		} {
			t.Run(tls.VersionName(version)+" "+name, func(t *testing.T) {
				visit := visits(t, version, "a.test", &leaf)
				for i, step := range []struct {
					keys    string
					resumed bool
				}{{"a", false}, {"a", true}, {"ab", true}, {"ba", true}, {"b", true}, {"cb", true}, {"d", false}, {"d", true}, {"c", false}} {
					if got := visit(replica(t, store, keysOf(t, step.keys), hosts())); got != step.resumed {
						t.Errorf("visit %d, of a replica with %s: resumed is %v", i, step.keys, got)
					}
				}
				if visit(replica(t, store, nil, hosts())) {
					t.Error("a replica without shared keys resumes a session of others")
				}
			})
		}
	}
}

// TestPoliciesShareNoSessions: what a session says about its client was found out under the policy of its handshake, and holds under no other.
func TestPoliciesShareNoSessions(t *testing.T) {
	root := issue(t, nil, "root", authority)
	other := issue(t, nil, "other", authority)
	leaf := issue(t, root, "leaf", nil)
	shown := leaf.pair()
	store := storeFor(t, certs.Options{})
	base := policyOf(router.VerifyOn, trust(nil, root))
	hosts := map[string]*router.TLSPolicy{
		"none": nil, "base": base,
		"optional":        policyOf(router.VerifyOptional, trust(nil, root)),
		"another root":    policyOf(router.VerifyOn, trust(nil, other)),
		"one more root":   policyOf(router.VerifyOn, trust(nil, root, other)),
		"a list":          policyOf(router.VerifyOn, trust([]*x509.RevocationList{revoke(t, root, nil)}, root)),
		"another depth":   router.NewTLSPolicy(router.ClientAuth{Verify: router.VerifyOn, Depth: 7}, "default/web", trust(nil, root)),
		"the same, again": router.NewTLSPolicy(router.ClientAuth{Verify: router.VerifyOn, Depth: 1, MatchCN: "CN=x"}, "default/other", trust(nil, root)),
	}
	for _, keys := range []*router.TicketKeys{nil, keysOf(t, "k")} {
		for _, version := range versions {
			for from, before := range hosts {
				for to, after := range hosts {
					// The table changes under one and the same process.
					live := before
					config := newConfig(t, store, server.Options{Table: func() *router.Table { return tableWith(keys, map[string]*router.TLSPolicy{"a.test": live})() }})
					visit := visits(t, version, "a.test", &shown)
					if visit(config) {
						t.Fatal("the first visit is resumed")
					}
					live = after
					// Where the client is not let in, its session is of no use.
					want := before.Same(after) && from != "another root"
					if got := visit(config); got != want {
						t.Errorf("%s, shared keys %v: from %q to %q: resumed is %v", tls.VersionName(version), keys != nil, from, to, got)
					}
				}
			}
		}
	}
}

// TestRefusedClientsComeBackAnew: a session of a client that was not let in would show the same certificate for days, whatever the client has
// got meanwhile.
func TestRefusedClientsComeBackAnew(t *testing.T) {
	root := issue(t, nil, "root", authority)
	good, bad := issue(t, root, "good", nil).pair(), issue(t, issue(t, nil, "other", authority), "bad", nil).pair()
	store := storeFor(t, certs.Options{})
	for _, version := range versions {
		for _, c := range []struct {
			verify router.Verify
			first  *tls.Certificate
			resume bool
		}{
			{router.VerifyOn, nil, false}, {router.VerifyOn, &bad, false}, {router.VerifyOn, &good, true},
			{router.VerifyOptional, nil, true}, {router.VerifyOptional, &bad, false}, {router.VerifyOptional, &good, true},
			{router.VerifyOptionalNoCA, nil, true}, {router.VerifyOptionalNoCA, &bad, true}, {router.VerifyOptionalNoCA, &good, true},
		} {
			p := policyOf(c.verify, trust(nil, root))
			config := replica(t, store, nil, map[string]*router.TLSPolicy{"a.test": p})
			sessions := tls.NewLRUClientSessionCache(1)
			h := server.NewHandshaker(server.HandshakerOptions{})
			for i, shown := range []*tls.Certificate{c.first, &good} {
				state, err, clientErr := connect(t, h, config, client(func(o *tls.Config) {
					o.MaxVersion, o.ClientSessionCache = version, sessions
					o.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
						if shown == nil {
							return &tls.Certificate{}, nil
						}
						return shown, nil
					}
				}))
				if err != nil || clientErr != nil {
					t.Fatalf("%v, %v", err, clientErr)
				}
				if state.DidResume != (i == 1 && c.resume) {
					t.Errorf("%s %s, first certificate %v: visit %d resumed is %v", tls.VersionName(version), c.verify, c.first != nil, i, state.DidResume)
				}
			}
		}
	}
}

// TestResumedVerdict: a session brings the certificate along, which is judged as if it were shown.
func TestResumedVerdict(t *testing.T) {
	root := issue(t, nil, "root", authority)
	leaf := issue(t, root, "leaf", nil)
	shown := leaf.pair()
	p := policyOf(router.VerifyOn, trust(nil, root))
	config := replica(t, storeFor(t, certs.Options{}), nil, map[string]*router.TLSPolicy{"a.test": p})
	for _, version := range versions {
		sessions := tls.NewLRUClientSessionCache(1)
		for i := range 3 {
			h := server.NewHandshaker(server.HandshakerOptions{})
			near, far := tcpPipe(t)
			c := tls.Client(far, client(func(c *tls.Config) {
				c.MaxVersion, c.ClientSessionCache, c.Certificates = version, sessions, []tls.Certificate{shown}
			}))
			clientErr := make(chan error, 1)
			go func() {
				err := c.Handshake()
				if err == nil {
					_, err = c.Read(make([]byte, 1))
				}
				clientErr <- err
			}()
			s := h.Server(near, config)
			if err := h.Handshake(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if err := <-clientErr; err != nil {
				t.Fatal(err)
			}
			if got := s.ConnectionState().DidResume; got != (i > 0) {
				t.Fatalf("visit %d: resumed is %v", i, got)
			}
			got := server.CredentialsOf(s)
			if subject, _ := got.Names(); got.Judge(p, time.Now()).Outcome != router.Verified || subject != "CN=leaf" || !got.Certificate().Equal(leaf.Certificate) {
				t.Errorf("%s visit %d: %s, subject %q", tls.VersionName(version), i, got.Judge(p, time.Now()), subject)
			}
		}
	}
}

// TestRefusedNamesAreNotResumed: a session needs no certificate, so nobody would look whether there is one for the name.
func TestRefusedNamesAreNotResumed(t *testing.T) {
	store := storeFor(t, certs.Options{RejectUnknown: true})
	config := replica(t, store, nil, nil)
	sessions := tls.NewLRUClientSessionCache(1)
	h := server.NewHandshaker(server.HandshakerOptions{})
	for i, c := range []struct {
		name string
		ok   bool
	}{{"a.test", true}, {"a.test", true}, {"unknown.test", false}} {
		_, err, _ := connect(t, h, config, client(func(o *tls.Config) { o.ServerName, o.ClientSessionCache = c.name, anyName{sessions} }))
		if (err == nil) != c.ok {
			t.Errorf("visit %d, of %s: %v", i, c.name, err)
		}
	}
}

// anyName is a cache of a client that takes a session of one name to another.
type anyName struct{ tls.ClientSessionCache }

func (a anyName) Get(string) (*tls.ClientSessionState, bool) { return a.ClientSessionCache.Get("x") }
func (a anyName) Put(_ string, s *tls.ClientSessionState)    { a.ClientSessionCache.Put("x", s) }

// TestTicketsOff: no option turns them on again, for hosts with a policy neither.
func TestTicketsOff(t *testing.T) {
	root := issue(t, nil, "root", authority)
	shown := issue(t, root, "leaf", nil).pair()
	for name, p := range map[string]*router.TLSPolicy{"plain": nil, "policy": policyOf(router.VerifyOn, trust(nil, root))} {
		for _, version := range versions {
			config := newConfig(t, storeFor(t, certs.Options{}), server.Options{
				Tickets: server.TicketsOff, TicketKeys: keysOf(t, "a"), Table: tableWith(keysOf(t, "b"), map[string]*router.TLSPolicy{"a.test": p}),
			})
			visit := visits(t, version, "a.test", &shown)
			if visit(config); visit(config) {
				t.Errorf("%s %s: resumed", name, tls.VersionName(version))
			}
		}
	}
}

// TestKeyring: shared keys come first, then those of the options, then random ones that change daily and are good for a week.
func TestKeyring(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		given, shared, next := keysOf(t, "g"), keysOf(t, "s"), keysOf(t, "ns")
		for i, k := range []*server.Keyring{server.NewKeyring(nil), server.NewKeyring(given)} {
			if i == 1 && fmt.Sprint(k.Keys(nil)) != fmt.Sprint(given.Keys()) {
				t.Error("the keys of the options are not used")
			}
			for _, step := range []struct{ from, want *router.TicketKeys }{{shared, shared}, {nil, shared}, {next, next}, {nil, next}} {
				if got := k.Keys(step.from); fmt.Sprint(got) != fmt.Sprint(step.want.Keys()) {
					t.Errorf("keyring %d: other keys than the shared ones", i)
				}
			}
		}
		k := server.NewKeyring(nil)
		first := k.Keys(nil)[0]
		if again := k.Keys(nil); len(again) != 1 || again[0] != first {
			t.Fatalf("%d keys at first, or others the second time", len(again))
		}
		for day := 1; day <= 9; day++ {
			time.Sleep(24 * time.Hour)
			keys := k.Keys(nil)
			seen := map[[32]byte]bool{}
			for _, key := range keys {
				seen[key] = true
			}
			if want := min(day+1, 7); len(keys) != want || len(seen) != want || keys[0] == first || seen[first] != (day < 7) {
				t.Errorf("day %d: %d keys, %d different ones, the first day's among them: %v", day, len(keys), len(seen), seen[first])
			}
		}
	})
}
