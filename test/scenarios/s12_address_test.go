package scenarios

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// S12: the address that the load balancer gave to the Service is the ADDRESS of the Ingress.
func TestS12Address(t *testing.T) {
	p := newPlace(t, world.lane)
	p.apply("s12-address.yaml")
	want, _, err := net.SplitHostPort(p.lane.address(80))
	if err != nil {
		t.Fatal(err)
	}
	until(t, "ADDRESS in kubectl get ingress", func(context.Context) error {
		// NAME CLASS HOSTS ADDRESS PORTS AGE, and ADDRESS may be empty.
		line := p.kubectl("get", "ingress", "address", "--no-headers")
		if fields := strings.Fields(line); len(fields) != 6 || fields[3] != want {
			return fmt.Errorf("want %s: %s", want, line)
		}
		return nil
	})
}

// S12, the client's address: with externalTrafficPolicy: Local Pods get the client's own, and through a load balancer that speaks the PROXY protocol
// that of its client. Who does not, and says so all the same, is not believed.
func TestS12ClientAddress(t *testing.T) {
	if os.Getenv("PODLANE_NODE") == "" {
		t.Skip("which address clients have is known where the network is test/node's")
	}
	p := newPlace(t, open(t))
	p.apply("s12-address.yaml")
	p.rollout("web")
	p.lane.waitPods(t, "http://address.goweb.com/", names(p.pods("app=web", 1))...)
	for _, client := range clients() {
		e := p.lane.curl(t, "http://address.goweb.com/echo", "--interface", client, "--header", "X-Forwarded-For: 6.6.6.6").echo(t)
		if got := e.values("X-Forwarded-For"); !slices.Equal(got, []string{client}) {
			t.Errorf("from %s: X-Forwarded-For came to the Pod as %q", client, got)
		}
	}
	until(t, "the client that the PROXY protocol names", func(ctx context.Context) error {
		out, err := speakProxy(ctx, p.lane.address(80), "PROXY TCP4 203.0.113.9 10.240.0.100 4711 80\r\n"+
			"GET /echo HTTP/1.1\r\nHost: address.goweb.com\r\nConnection: close\r\n\r\n")
		if err == nil && !strings.Contains(out, `"203.0.113.9"`) {
			err = fmt.Errorf("got %s", out)
		}
		return err
	})
	// From an address that is not the load balancer's the same bytes are no request.
	if a, err := p.lane.tryCurl(t.Context(), "http://address.goweb.com/", "--interface", clients()[0], "--haproxy-protocol"); err == nil && a.Status != 400 {
		t.Errorf("a client that speaks the PROXY protocol gets %d", a.Status)
	}
}

// speakProxy sends bytes from the load balancer's address, and returns the answer.
func speakProxy(ctx context.Context, address, request string) (string, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(balancerIP)}}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, request); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	return string(answer), err
}
