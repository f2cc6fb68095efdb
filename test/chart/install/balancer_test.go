package install

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podlane.dev/podlane/test/cluster"
)

// A balancer is what a cloud puts before a Service of type LoadBalancer: an address whose connections go to ready endpoints.
type balancer struct {
	t                           *testing.T
	c                           *cluster.Cluster
	namespace, service, address string
	next                        int
	mu                          sync.Mutex
}

// balance listens at an address, on the ports 80 and 443, until the test ends.
func balance(t *testing.T, c *cluster.Cluster, namespace, service, address string) *balancer {
	t.Helper()
	b := &balancer{t: t, c: c, namespace: namespace, service: service, address: address}
	var serving sync.WaitGroup
	t.Cleanup(serving.Wait) // when the listeners are closed
	for port, name := range map[string]string{"80": "http", "443": "https"} {
		l := listen(t, net.JoinHostPort(address, port))
		serving.Go(func() {
			for {
				in, err := l.Accept()
				if err != nil {
					return
				}
				serving.Go(func() { b.serve(in, name) })
			}
		})
	}
	return b
}

func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// serve connects a client to the next ready endpoint.
func (b *balancer) serve(in net.Conn, port string) {
	defer in.Close()
	_ = in.SetDeadline(time.Now().Add(time.Minute))
	endpoint, err := b.endpoint(port)
	if err != nil {
		return
	}
	out, err := net.DialTimeout("tcp", endpoint, 5*time.Second)
	if err != nil {
		return
	}
	defer out.Close()
	_ = out.SetDeadline(time.Now().Add(time.Minute))
	var up sync.WaitGroup
	up.Go(func() {
		_, _ = io.Copy(out, in)
		_ = out.(*net.TCPConn).CloseWrite()
	})
	_, _ = io.Copy(in, out)
	_ = in.(*net.TCPConn).CloseWrite()
	up.Wait()
}

// endpoint returns an address of the Service's port, in turn.
func (b *balancer) endpoint(port string) (string, error) {
	list, err := b.c.Client.DiscoveryV1().EndpointSlices(b.namespace).List(context.Background(), metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + b.service})
	if err != nil {
		return "", err
	}
	var addresses []string
	for _, s := range list.Items {
		for _, p := range s.Ports {
			if p.Name == nil || *p.Name != port || p.Port == nil {
				continue
			}
			for _, e := range s.Endpoints {
				if e.Conditions.Ready != nil && *e.Conditions.Ready {
					addresses = append(addresses, net.JoinHostPort(e.Addresses[0], fmt.Sprint(*p.Port)))
				}
			}
		}
	}
	if len(addresses) == 0 {
		return "", errors.New("no endpoint is ready")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next++
	return addresses[b.next%len(addresses)], nil
}

// publish writes the address into the Service's status.
func (b *balancer) publish() {
	b.t.Helper()
	if err := b.write(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

func (b *balancer) write(ctx context.Context) error {
	patch := fmt.Sprintf(`{"status":{"loadBalancer":{"ingress":[{"ip":%q}]}}}`, b.address)
	_, err := b.c.Kubectl(ctx, "", "-n", b.namespace, "patch", "service", b.service, "--subresource=status", "--type=merge", "-p", patch)
	return err
}

// publishWhenThere publishes the address as soon as there is the Service.
func (b *balancer) publishWhenThere() {
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil && b.write(ctx) != nil {
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	b.t.Cleanup(func() {
		cancel()
		<-done
	})
}

// clients ask Podlane's balancer over new connections, one after the other, until the function that is returned is called: it fails the test where
// a request has failed.
func (m *mover) clients() (end func()) {
	m.t.Helper()
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, ServerName: "shop.example.com"}, //nolint:gosec // as curl -k
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, m.new.address+":443")
		},
	}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(m.t.Context()))
	var asking sync.WaitGroup
	asked, failed := 0, []string(nil)
	asking.Go(func() {
		for ctx.Err() == nil && len(failed) < 10 {
			if asked++; !answered(client) {
				failed = append(failed, time.Now().Format(time.TimeOnly))
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	end = sync.OnceFunc(func() {
		cancel()
		asking.Wait()
		m.t.Logf("%d requests to Podlane, %d failed", asked, len(failed))
		if len(failed) > 0 || asked == 0 {
			m.t.Errorf("%d of %d requests failed, at %v", len(failed), asked, failed)
		}
	})
	m.t.Cleanup(end)
	return end
}

func answered(client *http.Client) bool {
	res, err := client.Get("https://shop.example.com/")
	if err != nil {
		return false
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return err == nil && res.StatusCode == http.StatusOK
}

// keyPair is a certificate and its key, in PEM.
type keyPair struct{ certificate, key string }

func newKeyPair(t *testing.T, host string) keyPair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return keyPair{
		certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})),
		key:         string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
	}
}

// indent indents lines as a block of YAML under a key of a key.
func indent(text string) string { return strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ") }
