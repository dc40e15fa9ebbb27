package gateway_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/internal/gateway"
)

// TestListen: without a certificate only this machine is listened on.
func TestListen(t *testing.T) {
	for address, ok := range map[string]bool{
		"127.0.0.1:0": true, "localhost:8080": true, "[::1]:0": true,
		"0.0.0.0:0": false, ":8080": false, "10.0.0.1:80": false, "example.org:80": false, "127.0.0.1": false, "": false,
	} {
		if err := (gateway.Listen{Address: address}).Check(); (err == nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
	}
	for _, l := range []gateway.Listen{{Address: "127.0.0.1:0", Cert: "x"}, {Address: "127.0.0.1:0", Key: "x"}, {Address: "127.0.0.1:0", Cert: "none", Key: "none"}} {
		if l.Check() == nil {
			t.Errorf("%+v was taken", l)
		}
	}
}

// TestServeStops: to be stopped while it still reads what was asked is no fault.
func TestServeStops(t *testing.T) {
	t.Parallel()
	g := newBench(t).make(time.Second, testTokens)
	listener, err := gateway.Listen{Address: "127.0.0.1:0"}.Open()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := g.Serve(ctx, listener, []string{"test"}); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if err := listener.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the address is still listened on: %v", err)
	}
}

// TestTLS: with a certificate the API is served with it, and not without.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pool := writeCertificate(t, cert, key)
	b := newBench(t)
	g := b.make(time.Second, testTokens)
	listener, err := gateway.Listen{Address: "127.0.0.1:0", Cert: cert, Key: key}.Open()
	if err != nil {
		t.Fatal(err)
	}
	b.start("gateway", func(ctx context.Context) error { return g.Serve(ctx, listener, []string{"test"}) })
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	url := "https://" + listener.Addr().String() + "/controller/v1/backend/status/"
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("https: got %s, want 401", resp.Status)
	}
	resp, err = client.Get(strings.Replace(url, "https", "http", 1))
	if err == nil {
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("http: got %s, want none", resp.Status)
		}
	}
}

// writeCertificate makes a certificate for this machine that signs itself.
func writeCertificate(t *testing.T, cert, key string) *x509.CertPool {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return pool
}

// TestTokens: where tokens come from, and what is refused.
func TestTokens(t *testing.T) {
	none := func(string) string { return "" }
	file := "# tokens\n\nTEST_CLIENT_TOKENS=aaaaaaaaaaaaaaaa, bbbbbbbbbbbbbbbb\nNEW_SITE_CLIENT_TOKENS=\"bbbbbbbbbbbbbbbb\"\n"
	tokens, err := gateway.ParseTokens([]string{"test", "new-site"}, none, file)
	if err != nil || tokens.Len() != 2 || tokens.Weak != 0 {
		t.Fatalf("%d tokens, %v", tokens.Len(), err)
	}
	if got := tokens.Backends("bbbbbbbbbbbbbbbb"); len(got) != 2 {
		t.Errorf("b may use %v, want both", got)
	}
	if tokens, err := gateway.ParseTokens([]string{"test"}, func(string) string { return "short" }, ""); err != nil || tokens.Weak != 1 {
		t.Errorf("a short token is not told of: %v", err)
	}
	for _, bad := range []string{"OTHER_CLIENT_TOKENS=x", "TEST_CLIENT_TOKENS", "nonsense", "TEST_CLIENT_TOKENS=a b"} {
		if _, err := gateway.ParseTokens([]string{"test"}, none, bad); err == nil {
			t.Errorf("%q was taken", bad)
		} else if strings.Contains(err.Error(), "a b") {
			t.Errorf("the error shows a token: %v", err)
		}
	}
}
