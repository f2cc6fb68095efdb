package node

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// An authority signs the certificates of everybody in the cluster.
type authority struct {
	n    *Node
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

// identity is whom a certificate is for: a user by name and group, a server by its hosts.
type identity struct {
	file, name, group string
	hosts             []string
}

// serverName is a name of the API server that clients elsewhere may expect.
const serverName = "kubernetes.default.svc"

func (n *Node) newAuthority() (*authority, error) {
	a := &authority{n: n}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "podlane-test-ca"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a, os.WriteFile(n.path("pki", "ca.crt"), a.pem, 0o644)
}

// issue writes a certificate and its key into the folder pki.
func (a *authority) issue(id identity) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: id.name}, NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if id.group != "" {
		template.Subject.Organization = []string{id.group}
	}
	for _, host := range id.hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(a.n.path("pki", id.file+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return err
	}
	return writeKey(a.n.path("pki", id.file+".key"), key)
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}

// kubeconfig writes a kubeconfig with the certificate that was issued to file.
func (a *authority) kubeconfig(file, path string) error {
	cert, err := os.ReadFile(a.n.path("pki", file+".crt"))
	if err != nil {
		return err
	}
	key, err := os.ReadFile(a.n.path("pki", file+".key"))
	if err != nil {
		return err
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["podlane"] = &clientcmdapi.Cluster{Server: "https://" + a.n.APIServer(), CertificateAuthorityData: a.pem}
	config.AuthInfos[file] = &clientcmdapi.AuthInfo{ClientCertificateData: cert, ClientKeyData: key}
	config.Contexts["podlane"] = &clientcmdapi.Context{Cluster: "podlane", AuthInfo: file}
	config.CurrentContext = "podlane"
	return clientcmd.WriteToFile(*config, path)
}

// startPKI makes the keys, certificates and kubeconfigs of everybody.
func (n *Node) startPKI() error {
	a, err := n.newAuthority()
	if err != nil {
		return fmt.Errorf("make a certificate authority: %w", err)
	}
	for _, id := range []identity{
		{file: "apiserver", name: "kube-apiserver", hosts: []string{nodeIP.String(), "10.96.0.1", "127.0.0.1", "kubernetes", "kubernetes.default", serverName, serverName + ".cluster.local"}},
		{file: "apiserver-kubelet", name: "kube-apiserver-kubelet-client", group: "system:masters"},
		{file: "admin", name: "admin", group: "system:masters"},
		{file: "scheduler", name: "system:kube-scheduler"},
		{file: "proxy", name: "system:kube-proxy"},
		{file: "kubelet", name: "system:node:" + nodeName, group: "system:nodes", hosts: []string{nodeIP.String(), nodeName}},
	} {
		if err := a.issue(id); err != nil {
			return fmt.Errorf("certificate for %s: %w", id.name, err)
		}
		if err := a.kubeconfig(id.file, n.path("pki", id.file+".kubeconfig")); err != nil {
			return fmt.Errorf("kubeconfig for %s: %w", id.name, err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if err := writeKey(n.path("pki", "accounts.key"), key); err != nil {
		return err
	}
	return a.kubeconfig("admin", n.Kubeconfig())
}
