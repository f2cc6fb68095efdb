package certs_test

import (
	"crypto"
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/tls/certs"
)

// listed renders List without serials and times, a line each.
func listed(s *certs.Store) string {
	var b strings.Builder
	for _, i := range s.List() {
		name := i.Namespace + "/" + i.Secret
		if i.Default {
			name = "* " + name
		}
		fmt.Fprintf(&b, "%s %v %s\n", name, i.Hosts, i.State)
	}
	return b.String()
}

func wantList(t *testing.T, s *certs.Store, want string) {
	t.Helper()
	if got := listed(s); got != want {
		t.Errorf("List:\n%swant:\n%s", got, want)
	}
}

func TestBrokenSecretKeepsLastGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fallback := pairFor(t, "default.test")
		good, better := pairFor(t, "a.test"), pairFor(t, "a.test")
		s := newStore(t, certs.Options{Default: fallback})
		s.Publish([]*router.Certificate{cert("s", good, "a.test", "*.b.test")}, nil)
		wantList(t, s, "* / [] ok\nns/s [a.test *.b.test] ok\n")

		time.Sleep(time.Minute)
		broke := time.Now()
		broken := []*router.Certificate{cert("s", nil, "a.test", "*.b.test", "new.test")}
		s.Publish(broken, nil)
		if served(t, s, "a.test") != good || served(t, s, "x.b.test") != good {
			t.Error("the last good certificate was not kept")
		}
		if served(t, s, "new.test") != fallback {
			t.Error("a host that the Secret never served got its last good certificate")
		}
		wantList(t, s, "* / [] ok\nns/s [a.test *.b.test] stale\nns/s [new.test] default\n")
		info := s.List()[1]
		if !info.Since.Equal(broke) || !info.Until.Equal(broke.Add(24*time.Hour)) || info.Serial != good.Leaf.SerialNumber.Text(16) ||
			!info.NotAfter.Equal(good.Leaf.NotAfter) {
			t.Errorf("List says %+v", info)
		}

		// Publishing again does not prolong it.
		time.Sleep(23 * time.Hour)
		s.Publish(broken, nil)
		if served(t, s, "a.test") != good {
			t.Error("given up early")
		}
		time.Sleep(time.Hour - time.Nanosecond)
		if served(t, s, "a.test") != good {
			t.Error("given up before 24 h")
		}
		// Its end needs no Publish.
		time.Sleep(time.Nanosecond)
		if served(t, s, "a.test") != fallback || served(t, s, "x.b.test") != fallback {
			t.Error("served for more than 24 h")
		}
		wantList(t, s, "* / [] ok\nns/s [a.test *.b.test] default\nns/s [new.test] default\n")

		// Nor does a Publish bring it back, and List still knows since when.
		s.Publish(broken, nil)
		if served(t, s, "a.test") != fallback {
			t.Error("a Publish brought it back")
		}
		if info := s.List()[1]; !info.Since.Equal(broke) || info.Serial != "" {
			t.Errorf("List says %+v", info)
		}

		s.Publish([]*router.Certificate{cert("s", better, "a.test")}, nil)
		if served(t, s, "a.test") != better {
			t.Error("the repaired Secret is not served")
		}
		wantList(t, s, "* / [] ok\nns/s [a.test] ok\n")

		// The next fault has its own 24 hours.
		time.Sleep(time.Hour)
		s.Publish(broken, nil)
		if served(t, s, "a.test") != better || !s.List()[1].Since.Equal(time.Now()) {
			t.Error("the second fault is not like the first")
		}
	})
}

func TestLastGoodIsTheSameSecretsAndHosts(t *testing.T) {
	fallback, good := pairFor(t, "default.test"), pairFor(t, "a.test")
	otherNamespace := cert("s", nil, "a.test")
	otherNamespace.Namespace, otherNamespace.Owner = "other", "other/owner"
	newOwner := cert("s", nil, "a.test")
	newOwner.Owner = "ns/renamed"
	for _, c := range []struct {
		story string
		next  *router.Certificate
		want  *tls.Certificate
	}{
		{"another Secret", cert("t", nil, "a.test"), fallback},
		{"another namespace", otherNamespace, fallback},
		{"another host", cert("s", nil, "b.test"), fallback},
		{"another kind of host", cert("s", nil, "*.a.test"), fallback},
		{"another Ingress of the namespace", newOwner, good},
		{"a pair that cannot handshake", cert("s", &tls.Certificate{Certificate: good.Certificate, PrivateKey: fallback.PrivateKey}, "a.test"), good},
	} {
		t.Run(c.story, func(t *testing.T) {
			s := newStore(t, certs.Options{Default: fallback})
			s.Publish([]*router.Certificate{cert("s", good, "a.test")}, nil)
			s.Publish([]*router.Certificate{c.next}, nil)
			name := strings.Replace(c.next.Hosts[0], "*", "x", 1)
			if got := served(t, s, name); got != c.want {
				t.Errorf("%s: got %v, want %v", name, got.Leaf.DNSNames, c.want.Leaf.DNSNames)
			}
		})
	}

	s := newStore(t, certs.Options{Default: fallback})
	s.Publish([]*router.Certificate{cert("s", good, "a.test")}, nil)
	s.Publish(nil, nil)
	s.Publish([]*router.Certificate{cert("s", nil, "a.test")}, nil)
	if served(t, s, "a.test") != fallback {
		t.Error("a host that no Ingress named in between got a forgotten certificate")
	}
}

func TestImpliedHostsAreKept(t *testing.T) {
	good := pairFor(t, "a.test", "*.b.test")
	s := newStore(t, certs.Options{})
	s.Publish([]*router.Certificate{cert("s", good)}, nil)
	for range 2 { // the memory of a memory
		s.Publish([]*router.Certificate{cert("s", nil), cert("never", nil)}, nil)
		if served(t, s, "a.test") != good || served(t, s, "x.b.test") != good {
			t.Error("the names of the last good certificate were forgotten")
		}
		wantList(t, s, "* / [] ok\nns/s [a.test *.b.test] stale\nns/never [] shadowed\n")
	}
}

func TestOperatorsDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own, operators := pairFor(t, "own.test"), pairFor(t, "operator.test")
		s := newStore(t, certs.Options{Default: own, KeepStale: time.Hour})
		secret := func(pair *tls.Certificate) *router.Certificate {
			return &router.Certificate{Namespace: "ingress", Secret: "default", KeyPair: pair}
		}
		s.Publish(nil, secret(nil))
		if served(t, s, "x.test") != own {
			t.Error("a default Secret that never was good is served")
		}
		wantList(t, s, "* ingress/default [] default\n* / [] ok\n")

		s.Publish([]*router.Certificate{cert("gone", nil, "a.test")}, secret(operators))
		if served(t, s, "x.test") != operators || served(t, s, "a.test") != operators || served(t, s, "") != operators {
			t.Error("the operator's default certificate is not served")
		}
		wantList(t, s, "* ingress/default [] ok\nns/gone [a.test] default\n")

		s.Publish(nil, secret(nil))
		if served(t, s, "x.test") != operators {
			t.Error("the last good default certificate was not kept")
		}
		wantList(t, s, "* ingress/default [] stale\n")
		time.Sleep(time.Hour)
		if served(t, s, "x.test") != own {
			t.Error("a broken default Secret is served for ever")
		}
		wantList(t, s, "* ingress/default [] default\n* / [] ok\n")
	})
}

func TestStaleBesideGood(t *testing.T) {
	key, err := rsaKey()
	if err != nil {
		t.Fatal(err)
	}
	ec := pairFor(t, "a.test")
	rsaPair := signed(t, key, time.Now().Add(time.Hour), []string{"a.test"})
	s := newStore(t, certs.Options{})
	s.Publish([]*router.Certificate{cert("ec", ec, "a.test"), cert("rsa", rsaPair, "a.test")}, nil)
	s.Publish([]*router.Certificate{cert("ec", nil, "a.test"), cert("rsa", rsaPair, "a.test")}, nil)
	if state := handshake(t, s, &tls.Config{ServerName: "a.test"}); !state.PeerCertificates[0].Equal(rsaPair.Leaf) {
		t.Error("the stale certificate was preferred to a good one")
	}
	wantList(t, s, "* / [] ok\nns/ec [a.test] stale\nns/rsa [a.test] ok\n")
}

func TestExpiredIsServedAndListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fallback := pairFor(t, "default.test")
		pair := signed(t, fallback.PrivateKey.(crypto.Signer), time.Now().Add(time.Hour), []string{"a.test"})
		s := newStore(t, certs.Options{Default: fallback})
		s.Publish([]*router.Certificate{cert("s", pair, "a.test")}, nil)
		time.Sleep(time.Hour)
		wantList(t, s, "* / [] ok\nns/s [a.test] ok\n")
		time.Sleep(time.Second)
		wantList(t, s, "* / [] ok\nns/s [a.test] expired\n")
		if served(t, s, "a.test") != pair {
			t.Error("not served any more")
		}
	})
}

// A Secret that is renewed with a certificate that has expired (an old backup, say), or is not valid yet, keeps the last good one, as a broken Secret does.
func TestRenewedWithWhatIsNotValid(t *testing.T) {
	for name, row := range map[string]struct {
		notAfter time.Duration
		state    certs.State
	}{
		"expired": {-time.Second, certs.Expired},
		"early":   {3000 * time.Hour, certs.Early},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fallback, good := pairFor(t, "default.test"), pairFor(t, "a.test")
				bad := signed(t, fallback.PrivateKey.(crypto.Signer), time.Now().Add(row.notAfter), []string{"a.test"})
				s := newStore(t, certs.Options{Default: fallback})
				s.Publish([]*router.Certificate{cert("s", good, "a.test")}, nil)
				renewed := []*router.Certificate{cert("s", bad, "a.test", "new.test")}
				s.Publish(renewed, nil)
				if served(t, s, "a.test") != good {
					t.Error("the last good certificate was not kept")
				}
				if served(t, s, "new.test") != bad {
					t.Error("a host that the Secret never served did not get what is in it")
				}
				wantList(t, s, fmt.Sprintf("* / [] ok\nns/s [a.test new.test] %s\nns/s [a.test] stale\n", row.state))
				if got := handshake(t, s, &tls.Config{ServerName: "a.test"}); !got.PeerCertificates[0].Equal(good.Leaf) {
					t.Error("the handshake had another certificate")
				}
				// Publishing again does not prolong it, and its end needs no Publish.
				time.Sleep(23 * time.Hour)
				s.Publish(renewed, nil)
				if served(t, s, "a.test") != good {
					t.Error("given up early")
				}
				time.Sleep(time.Hour)
				if served(t, s, "a.test") != bad {
					t.Error("kept for more than 24 h")
				}
				s.Publish(renewed, nil)
				wantList(t, s, fmt.Sprintf("* / [] ok\nns/s [a.test new.test] %s\n", row.state))
			})
		})
	}
}

// What is not valid yet is served from the moment on in which it is.
func TestEarlyCertificateBecomesValid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good := pairFor(t, "a.test")
		early := signed(t, good.PrivateKey.(crypto.Signer), time.Now().Add(2001*time.Hour), []string{"a.test"}) // valid in an hour
		s := newStore(t, certs.Options{})
		s.Publish([]*router.Certificate{cert("s", good, "a.test")}, cert("s", good))
		s.Publish([]*router.Certificate{cert("s", early, "a.test")}, cert("s", early))
		if served(t, s, "a.test") != good || served(t, s, "other.test") != good {
			t.Error("served before its time")
		}
		time.Sleep(time.Hour)
		if served(t, s, "a.test") != early || served(t, s, "other.test") != early {
			t.Error("not served at its time")
		}
		s.Publish([]*router.Certificate{cert("s", early, "a.test")}, cert("s", early))
		wantList(t, s, "* ns/s [] ok\nns/s [a.test] ok\n")
	})
}

// Of what a Secret held, the good certificate is the last good one, also if the Secret goes after it was renewed with one that is not.
func TestSecretGoesAfterABadRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good := pairFor(t, "a.test")
		s := newStore(t, certs.Options{})
		s.Publish([]*router.Certificate{cert("s", good, "a.test")}, nil)
		expired := signed(t, good.PrivateKey.(crypto.Signer), time.Now().Add(-time.Second), []string{"a.test"})
		s.Publish([]*router.Certificate{cert("s", expired, "a.test")}, nil)
		time.Sleep(time.Hour)
		s.Publish([]*router.Certificate{cert("s", nil, "a.test")}, nil)
		if served(t, s, "a.test") != good {
			t.Error("the last good certificate was not kept")
		}
		time.Sleep(23*time.Hour - time.Nanosecond)
		if served(t, s, "a.test") != good {
			t.Error("given up early")
		}
		time.Sleep(time.Nanosecond)
		wantList(t, s, "* / [] ok\nns/s [a.test] default\n")
		// Created again, it is served at once.
		s.Publish([]*router.Certificate{cert("s", good, "a.test")}, nil)
		wantList(t, s, "* / [] ok\nns/s [a.test] ok\n")
	})
}

func TestListIsACopyInOrder(t *testing.T) {
	s := newStore(t, certs.Options{})
	first := cert("z", pairFor(t, "z.test"), "z.test", "a.test")
	second := cert("b", pairFor(t, "b.test"), "a.test")
	second.Owner = "ns/second"
	s.Publish([]*router.Certificate{first, second}, nil)
	const want = "* / [] ok\nns/z [z.test a.test] ok\nns/b [] shadowed\n"
	wantList(t, s, want)
	infos := s.List()
	if infos[1].Owner != "ns/owner" || infos[2].Owner != "ns/second" || infos[2].Serial == "" && infos[2].State != certs.Shadowed {
		t.Errorf("owners: %+v", infos[1:])
	}
	slices.Reverse(infos[1].Hosts)
	wantList(t, s, want)
}

func TestOneSecretListedTwice(t *testing.T) {
	pair := pairFor(t, "a.test")
	s := newStore(t, certs.Options{})
	s.Publish([]*router.Certificate{cert("s", pair, "a.test"), cert("s", pair, "a.test", "A.test.")}, nil)
	hello := &tls.ClientHelloInfo{ServerName: "a.test"}
	if n := testing.AllocsPerRun(10, func() {
		if got, err := s.GetCertificate(hello); got != pair || err != nil {
			t.Fatal(got, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations: the handshake had to choose between a certificate and itself", n)
	}
}

func TestPublishOfTheSameIsFree(t *testing.T) {
	s := newStore(t, certs.Options{})
	pair := pairFor(t, "a.test")
	list := []*router.Certificate{cert("s", pair, "a.test"), cert("u", pair, "b.test")}
	def := cert("default", pair)
	s.Publish(list, def)
	if n := testing.AllocsPerRun(10, func() { s.Publish(list, def) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	// Anything else is a change: order, length, one element, the default.
	for _, next := range [][]*router.Certificate{{list[1], list[0]}, list[:1], {list[0], cert("u", pair, "c.test")}} {
		if n := testing.AllocsPerRun(1, func() { s.Publish(list, def); s.Publish(next, def) }); n == 0 {
			t.Errorf("%v was taken for the same", next)
		}
	}
	if n := testing.AllocsPerRun(1, func() { s.Publish(list, def); s.Publish(list, nil) }); n == 0 {
		t.Error("a change of the default certificate was lost")
	}
}

// BenchmarkPublish is one changed certificate among 10,000, and none.
func BenchmarkPublish(b *testing.B) {
	s := newStore(b, certs.Options{})
	var pairs []*tls.Certificate
	for range 100 {
		pairs = append(pairs, pairFor(b, "x.test"))
	}
	var list []*router.Certificate
	for i := range 10_000 {
		list = append(list, cert(fmt.Sprint("s", i), pairs[i%len(pairs)], fmt.Sprintf("www.h%d.test", i)))
	}
	b.Run("changed", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			i++
			k := i % len(list)
			list[k] = cert(fmt.Sprint("s", k), pairs[i%len(pairs)], list[k].Hosts[0])
			s.Publish(list, nil)
		}
	})
	b.Run("same", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Publish(list, nil)
		}
	})
}
