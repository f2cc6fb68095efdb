package endpoints_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/yaml"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/endpoints"
)

// input is the objects of one Service, as YAML.
type input struct {
	Service   *corev1.Service
	Slices    []*discoveryv1.EndpointSlice
	Endpoints *corev1.Endpoints
}

// text is a compact form of addresses: port name, address, Pod, and the first letters of what is set.
func text(byPort map[string][]router.Address) string {
	var lines []string
	for port, addresses := range byPort {
		for i, a := range addresses {
			flags := ""
			for letter, set := range map[string]bool{"R": a.Ready, "S": a.Serving, "T": a.Terminating} {
				if set {
					flags += letter
				}
			}
			f := strings.Split(flags, "")
			slices.Sort(f)
			lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s#%d %s %s %s%s%s%s", port, i, a.AddrPort, strings.Join(f, ""), a.Pod, a.UID, a.Node, a.Zone)))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestAddresses(t *testing.T) {
	tests := []struct {
		name, in string
		scope    endpoints.Scope
		want     []string
	}{
		{name: "nothing", in: `service: {}`},
		{name: "one slice", in: `
slices: [{addressType: IPv4, ports: [{name: http, port: 8080}], endpoints: [
  {addresses: [10.0.0.2], targetRef: {kind: Pod, name: web-2, uid: -2}, nodeName: -n, zone: -z}, {addresses: [10.0.0.1]}]}]`,
			want: []string{"http#0 10.0.0.1:8080 RS", "http#1 10.0.0.2:8080 RS web-2-2-n-z"}},
		{name: "conditions", in: `
slices: [{addressType: IPv4, ports: [{port: 1}], endpoints: [
  {addresses: [10.0.0.1]},
  {addresses: [10.0.0.2], conditions: {ready: true}},
  {addresses: [10.0.0.3], conditions: {ready: false}},
  {addresses: [10.0.0.4], conditions: {ready: false, serving: true, terminating: true}},
  {addresses: [10.0.0.5], conditions: {ready: false, serving: false, terminating: true}},
  {addresses: [10.0.0.6], conditions: {terminating: true}}]}]`,
			want: []string{"#0 10.0.0.1:1 RS", "#1 10.0.0.2:1 RS", "#2 10.0.0.3:1", "#3 10.0.0.4:1 ST", "#4 10.0.0.5:1 T", "#5 10.0.0.6:1 RST"}},
		{name: "two Pods give one port name different numbers", in: `
slices:
- {addressType: IPv4, ports: [{name: http, port: 8080}, {name: https, port: 8443}], endpoints: [{addresses: [10.0.0.1]}]}
- {addressType: IPv4, ports: [{name: http, port: 9090}], endpoints: [{addresses: [10.0.0.2]}]}`,
			want: []string{"http#0 10.0.0.1:8080 RS", "http#1 10.0.0.2:9090 RS", "https#0 10.0.0.1:8443 RS"}},
		{name: "duplicates: ready wins, another Pod is another endpoint", in: `
slices:
- {addressType: IPv4, ports: [{port: 80}], endpoints: [{addresses: [10.0.0.1], conditions: {ready: false}, targetRef: {kind: Pod, name: a, uid: a}}]}
- {addressType: IPv4, ports: [{port: 80}], endpoints: [{addresses: [10.0.0.1], targetRef: {kind: Pod, name: a, uid: a}}]}
- {addressType: IPv4, ports: [{port: 80}], endpoints: [{addresses: [10.0.0.1], conditions: {ready: false}, targetRef: {kind: Pod, name: b, uid: b}}]}`,
			want: []string{"#0 10.0.0.1:80 RS aa", "#1 10.0.0.1:80  bb"}},
		{name: "family: the first of ipFamilies", in: `
service: {spec: {ipFamilies: [IPv6, IPv4]}}
slices:
- {addressType: IPv4, ports: [{port: 80}], endpoints: [{addresses: [10.0.0.1]}]}
- {addressType: IPv6, ports: [{port: 80}], endpoints: [{addresses: ["2001:db8::1"], conditions: {ready: false}}]}`,
			want: []string{"#0 [2001:db8::1]:80"}},
		{name: "family: the next one where the first has no endpoint", in: `
service: {spec: {ipFamilies: [IPv4, IPv6]}}
slices: [{addressType: IPv6, ports: [{port: 80}], endpoints: [{addresses: ["2001:db8::1"]}]}]`,
			want: []string{"#0 [2001:db8::1]:80 RS"}},
		{name: "family: not one that the Service does not have", in: `
service: {spec: {ipFamilies: [IPv4]}}
slices: [{addressType: IPv6, ports: [{port: 80}], endpoints: [{addresses: ["2001:db8::1"]}]}]`},
		{name: "family: unset", in: `
slices:
- {addressType: IPv6, ports: [{port: 80}], endpoints: [{addresses: ["2001:db8::1"]}]}
- {addressType: IPv4, ports: [{port: 80}], endpoints: [{addresses: [10.0.0.1]}]}`,
			want: []string{"#0 10.0.0.1:80 RS"}},
		{name: "FQDN slices do not count", in: `
slices: [{addressType: FQDN, ports: [{port: 80}], endpoints: [{addresses: [example.com]}]}]
endpoints: {subsets: [{addresses: [{ip: 10.0.0.9}], ports: [{port: 80}]}]}`,
			want: []string{"#0 10.0.0.9:80 RS"}},
		{name: "addresses that are none, or never dialled", in: `
slices:
- {addressType: IPv4, ports: [{port: 80}], endpoints: [{addresses: [x, "", 10.0.0.300, 010.0.0.1, 0.0.0.0, 127.0.0.1, 169.254.169.254, 224.0.0.1, 255.255.255.255, "::1", "::ffff:127.0.0.1", "::ffff:169.254.1.1", 10.0.0.1]}]}
- {addressType: IPv6, ports: [{port: 80}], endpoints: [{addresses: ["10.0.0.2", "::", "fe80::1", "fe80::1%eth0", "ff02::1"]}]}`,
			want: []string{"#0 10.0.0.1:80 RS"}},
		{name: "loopback in serve", scope: endpoints.Local, in: `
slices: [{addressType: IPv4, ports: [{port: 80}], endpoints: [{addresses: [127.0.0.1, 169.254.169.254, 127.1.2.3]}]}]`,
			want: []string{"#0 127.0.0.1:80 RS", "#1 127.1.2.3:80 RS"}},
		{name: "ports: nil number, nil name, UDP, out of range", in: `
slices: [{addressType: IPv4, endpoints: [{addresses: [10.0.0.1]}],
  ports: [{name: all}, {port: 80}, {name: dns, port: 53, protocol: UDP}, {name: zero, port: 0}, {name: big, port: 65536}, {name: tcp, port: 65535, protocol: TCP}]}]`,
			want: []string{"#0 10.0.0.1:80 RS", "tcp#0 10.0.0.1:65535 RS"}},
		{name: "a slice without endpoints hides Endpoints", in: `
slices: [{addressType: IPv4, ports: [{port: 80}]}]
endpoints: {subsets: [{addresses: [{ip: 10.0.0.9}], ports: [{port: 80}]}]}`},
		{name: "Endpoints", in: `
service: {metadata: {namespace: default}}
endpoints: {subsets: [
  {addresses: [{ip: 10.0.0.2, nodeName: -n, targetRef: {kind: Pod, namespace: default, name: p, uid: -u}}, {ip: 10.0.0.1}], notReadyAddresses: [{ip: 10.0.0.3}], ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]},
  {addresses: [{ip: 10.0.0.4}], ports: [{name: http, port: 81}]},
  {notReadyAddresses: [{ip: 10.0.0.1}], ports: [{name: http, port: 80}]}]}`,
			want: []string{"http#0 10.0.0.1:80 RS", "http#1 10.0.0.2:80 RS p-u-n", "http#2 10.0.0.3:80", "http#3 10.0.0.4:81 RS"}},
		{name: "Endpoints with publishNotReadyAddresses", in: `
service: {spec: {publishNotReadyAddresses: true}}
endpoints: {subsets: [{notReadyAddresses: [{ip: 10.0.0.3}], ports: [{port: 80}]}]}`,
			want: []string{"#0 10.0.0.3:80 RS"}},
		{name: "Endpoints of two families", in: `
endpoints: {subsets: [{addresses: [{ip: "2001:db8::1"}, {ip: 10.0.0.1}], ports: [{port: 80}]}]}`,
			want: []string{"#0 10.0.0.1:80 RS"}},
		{name: "Pods of another namespace", in: `
service: {metadata: {namespace: a}}
slices: [{addressType: IPv4, ports: [{port: 80}], endpoints: [
  {addresses: [10.0.0.1], targetRef: {kind: Pod, namespace: b, name: secret}}, {addresses: [10.0.0.2], targetRef: {kind: VirtualMachine, namespace: b, name: vm}}]}]`,
			want: []string{"#0 10.0.0.2:80 RS"}},
		{name: "ExternalName has no endpoints", in: `
service: {spec: {type: ExternalName}}
slices: [{addressType: IPv4, ports: [{port: 80}], endpoints: [{addresses: [10.0.0.1]}]}]`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var in input
			if err := yaml.UnmarshalStrict([]byte(tt.in), &in); err != nil {
				t.Fatal(err)
			}
			for seed := range uint64(4) {
				if got := text(tt.scope.Addresses(in.Service, in.Slices, in.Endpoints)); got != strings.Join(tt.want, "\n") {
					t.Fatalf("got\n%s\nwant\n%s", got, strings.Join(tt.want, "\n"))
				}
				shuffle(&in, rand.New(rand.NewPCG(seed, 0)))
			}
		})
	}
}

// shuffle puts what has no order into another one.
func shuffle(in *input, r *rand.Rand) {
	r.Shuffle(len(in.Slices), func(i, j int) { in.Slices[i], in.Slices[j] = in.Slices[j], in.Slices[i] })
	for _, s := range in.Slices {
		if s == nil {
			continue
		}
		r.Shuffle(len(s.Endpoints), func(i, j int) { s.Endpoints[i], s.Endpoints[j] = s.Endpoints[j], s.Endpoints[i] })
	}
	if in.Endpoints != nil {
		e := in.Endpoints.Subsets
		r.Shuffle(len(e), func(i, j int) { e[i], e[j] = e[j], e[i] })
	}
}

func FuzzAddresses(f *testing.F) {
	f.Add([]byte(`{"service":{"spec":{"ipFamilies":["IPv4"]}},"slices":[{"addressType":"IPv4","ports":[{"name":"http","port":80},{}],"endpoints":[{"addresses":["10.0.0.1","127.0.0.1"],"conditions":{"ready":false}}]},null]}`))
	f.Add([]byte(`{"endpoints":{"subsets":[{"addresses":[{"ip":"::1"}],"notReadyAddresses":[{"ip":"10.0.0.1"}],"ports":[{"port":80}]}]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var in input
		if json.Unmarshal(text, &in) != nil {
			return
		}
		got := endpoints.Cluster.Addresses(in.Service, in.Slices, in.Endpoints)
		families := map[bool]bool{}
		for port, addresses := range got {
			seen := map[string]bool{}
			for _, a := range addresses {
				ip := a.AddrPort.Addr()
				families[ip.Is4()] = true
				if !a.AddrPort.IsValid() || a.AddrPort.Port() == 0 || !ip.IsGlobalUnicast() && !ip.IsPrivate() || ip.Is4In6() {
					t.Fatalf("port %q has %v", port, a.AddrPort)
				}
				if id := a.AddrPort.String() + a.UID; seen[id] {
					t.Fatalf("port %q has %v twice", port, a.AddrPort)
				} else {
					seen[id] = true
				}
			}
			if !slices.IsSortedFunc(addresses, func(a, b router.Address) int { return a.AddrPort.Compare(b.AddrPort) }) {
				t.Fatalf("port %q is not sorted", port)
			}
		}
		if len(families) > 1 {
			t.Fatal("two families")
		}
		shuffle(&in, rand.New(rand.NewPCG(1, 2)))
		if in.Slices = append(in.Slices, in.Slices...); !reflect.DeepEqual(endpoints.Cluster.Addresses(in.Service, in.Slices, in.Endpoints), got) {
			t.Fatal("order or repetition matters")
		}
	})
}

func BenchmarkAddresses(b *testing.B) {
	slice := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4}
	name, port := "http", int32(8080)
	slice.Ports = []discoveryv1.EndpointPort{{Name: &name, Port: &port}}
	for i := range 100 {
		ip := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{ip.String()}})
	}
	list := []*discoveryv1.EndpointSlice{slice}
	b.ReportAllocs()
	for b.Loop() {
		endpoints.Cluster.Addresses(nil, list, nil)
	}
}
