package server_test

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"math/big"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/tls/certs"
	"podlane.dev/podlane/tls/server"
)

var handshakes = flag.Int("handshakes", 2000, "how many handshakes TestRotation makes; the release is tried with 100,000")

// rotation is a front whose certificates, policies and ticket keys are all replaced a hundred times a second.
type rotation struct {
	store *certs.Store
	table atomic.Pointer[router.Table]
	roots *x509.CertPool
	// sets are certificates of both kinds, with which the store is fed in turn.
	sets   [][]*router.Certificate
	tables []*router.Table
	swaps  atomic.Int64
}

func newRotation(t *testing.T) *rotation {
	t.Helper()
	store, err := certs.NewStore(certs.Options{RejectUnknown: true})
	if err != nil {
		t.Fatal(err)
	}
	r := &rotation{store: store, roots: x509.NewCertPool()}
	clients := issue(t, nil, "clients", authority)
	rsa, err := rsaKey()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		root := issue(t, nil, "servers", authority)
		r.roots.AddCert(root.Certificate)
		var set []*router.Certificate
		for kind, public := range []any{nil, rsa.Public()} {
			leaf := issue(t, root, "www.test", func(c *x509.Certificate) {
				c.ExtKeyUsage, c.DNSNames = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, []string{"www.test", "x.wild.test"}
			})
			pair := leaf.pair()
			if public != nil {
				template := *leaf.Certificate
				template.SerialNumber = big.NewInt(serial.Add(1))
				template.PublicKey, template.PublicKeyAlgorithm, template.SignatureAlgorithm = nil, 0, 0
				der, err := x509.CreateCertificate(rand.Reader, &template, root.Certificate, public, root.key)
				if err != nil {
					t.Fatal(err)
				}
				pair = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: rsa}
			}
			set = append(set, &router.Certificate{
				Hosts: []string{"www.test", "*.wild.test"}, Namespace: "ns", Secret: string(rune('a' + kind)), Owner: "ns/i", KeyPair: &pair,
			})
		}
		if i == 5 {
			set[0].KeyPair = nil // a Secret that is broken for a moment
		}
		r.sets = append(r.sets, set)
		keys, err := router.ParseTicketKeys(bytes.Repeat([]byte{byte(i)}, 32), bytes.Repeat([]byte{byte(i + 1)}, 32))
		if err != nil {
			t.Fatal(err)
		}
		var p *router.TLSPolicy
		if i%3 > 0 {
			p = policyOf(router.Verify(i%3), trust(nil, clients))
		}
		r.tables = append(r.tables, tableWith(keys, map[string]*router.TLSPolicy{"www.test": p})())
	}
	r.swap()
	return r
}

func (r *rotation) swap() {
	n := int(r.swaps.Add(1))
	r.store.Publish(r.sets[n%len(r.sets)], nil)
	r.table.Store(r.tables[n%len(r.tables)])
}

// TestRotation fails if any handshake does, while all that they depend on is replaced a hundred times a second.
func TestRotation(t *testing.T) {
	const clients, every = 4, 10 * time.Millisecond
	r := newRotation(t)
	config := newConfig(t, r.store, server.Options{Table: r.table.Load})
	h := server.NewHandshaker(server.HandshakerOptions{Timeout: time.Minute, QueueTimeout: time.Minute})
	stop := make(chan struct{})
	var rotating sync.WaitGroup
	rotating.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				r.swap()
			}
		}
	})
	count := int64(max(*handshakes/slower, 1))
	start := time.Now()
	var done, resumed atomic.Int64
	var all sync.WaitGroup
	for n := range clients {
		all.Go(func() {
			own := &tls.Config{ServerName: "www.test", RootCAs: r.roots, MaxVersion: tls.VersionTLS13}
			if n%2 == 1 {
				own.ServerName, own.MaxVersion = "x.wild.test", tls.VersionTLS12
			}
			if n > 1 {
				own.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			}
			for done.Add(1) <= count && !t.Failed() {
				state, err, clientErr := connect(t, h, config, own)
				if err != nil || clientErr != nil {
					t.Errorf("server: %v, client: %v", err, clientErr)
				}
				if state.DidResume {
					resumed.Add(1)
				}
			}
		})
	}
	all.Wait()
	took := time.Since(start)
	close(stop)
	rotating.Wait()
	if r.swaps.Load() < 5 || resumed.Load() == 0 {
		t.Errorf("%d rotations, %d sessions resumed: the test shows nothing", r.swaps.Load(), resumed.Load())
	}
	t.Logf("%d handshakes in %v, %d resumed, %d rotations", count, took.Round(time.Millisecond), resumed.Load(), r.swaps.Load())
}
