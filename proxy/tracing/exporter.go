package tracing

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// The bounds of one request to the collector.
const (
	connectTimeout = 5 * time.Second
	exportTimeout  = 10 * time.Second
	idleTimeout    = 90 * time.Second
	maxAnswer      = 64 << 10
)

// laterError says that a collector may take what it has not taken, after a while.
type laterError struct {
	error
	after time.Duration
}

// Unwrap returns the cause.
func (e *laterError) Unwrap() error { return e.error }

// exporter sends spans to one collector. One goroutine uses it.
type exporter struct {
	endpoint  Endpoint
	header    http.Header
	transport *http.Transport
	// resource and scope stand before the spans of each request.
	resource, scope []byte
	body            []byte // reused
	// zipper compresses to zipped, which is reused; nil where nothing is compressed.
	zipper *gzip.Writer
	zipped bytes.Buffer
}

func newExporter(o *Options) *exporter {
	protocols := new(http.Protocols)
	switch {
	case !o.Endpoint.GRPC:
		protocols.SetHTTP1(true)
	default:
		// gRPC is HTTP/2, in clear with prior knowledge.
		protocols.SetHTTP2(true)
		protocols.SetUnencryptedHTTP2(true)
	}
	e := &exporter{endpoint: o.Endpoint, header: http.Header{}, resource: appendResource(nil, o), scope: appendScope(nil, o.Version)}
	e.transport = &http.Transport{
		DialContext:         (&net.Dialer{Timeout: connectTimeout}).DialContext,
		TLSClientConfig:     clientTLS(o),
		TLSHandshakeTimeout: connectTimeout, IdleConnTimeout: idleTimeout, DisableCompression: true, MaxResponseHeaderBytes: maxAnswer,
		Protocols: protocols,
	}
	for _, h := range o.Headers {
		e.header.Set(h.Name, h.Value)
	}
	e.header.Set("User-Agent", "podlane")
	if o.Compressed {
		e.zipper = gzip.NewWriter(&e.zipped)
		e.header.Set(map[bool]string{false: "Content-Encoding", true: "Grpc-Encoding"}[e.endpoint.GRPC], "gzip")
	}
	if e.endpoint.GRPC {
		e.header.Set("Content-Type", "application/grpc")
		e.header.Set("TE", "trailers")
		e.header.Set("Grpc-Timeout", strconv.Itoa(int(exportTimeout/time.Second))+"S")
		return e
	}
	e.header.Set("Content-Type", "application/x-protobuf")
	return e
}

// clientTLS returns how the collector is spoken with in secret.
func clientTLS(o *Options) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs}
	if o.Certificate != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return o.Certificate() }
	}
	return c
}

func (e *exporter) close() { e.transport.CloseIdleConnections() }

// export sends spans in one request, and returns how many of them the collector refused.
func (e *exporter) export(ctx context.Context, spans []byte) (refused uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, exportTimeout)
	defer cancel()
	body, err := e.packed(spans)
	if err != nil {
		return 0, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.endpoint.URL, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("collector %s: %w", e.endpoint, err)
	}
	request.Header = e.header
	response, err := e.transport.RoundTrip(request)
	if err != nil {
		return 0, &laterError{fmt.Errorf("collector %s: %w", e.endpoint, err), 0}
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return 0, &laterError{fmt.Errorf("collector %s: its answer: %w", e.endpoint, err), 0}
	}
	if e.endpoint.GRPC {
		if err := e.judgeGRPC(response); err != nil {
			return 0, err
		}
		if len(answer) < grpcPrefix {
			return 0, nil
		}
		return rejected(answer[grpcPrefix:]), nil
	}
	return rejected(answer), e.judgeHTTP(response)
}

// grpcPrefix is the size of what stands before a message of gRPC: whether it is compressed, and its length.
const grpcPrefix = 5

// packed returns the body of a request, which holds until the next call: the message, compressed where it is to be, and for gRPC what stands before it.
func (e *exporter) packed(spans []byte) ([]byte, error) {
	b := e.body[:0]
	if e.endpoint.GRPC {
		b = append(b, make([]byte, grpcPrefix)...)
	}
	start := len(b)
	b = e.message(b, spans)
	e.body = b
	if e.zipper != nil {
		e.zipped.Reset()
		e.zipped.Write(b[:start])
		e.zipper.Reset(&e.zipped)
		_, err := e.zipper.Write(b[start:])
		if err = errors.Join(err, e.zipper.Close()); err != nil {
			return nil, fmt.Errorf("compress spans: %w", err)
		}
		b = e.zipped.Bytes()
	}
	if e.endpoint.GRPC {
		if e.zipper != nil {
			b[0] = 1
		}
		binary.BigEndian.PutUint32(b[1:], uint32(len(b)-grpcPrefix))
	}
	return b, nil
}

// message appends the request: ExportTraceServiceRequest with one ResourceSpans with one ScopeSpans.
func (e *exporter) message(b, spans []byte) []byte {
	const resourceSpans, scopeSpans = 1, 2
	scoped := len(e.scope) + len(spans)
	inner := len(e.resource) + protowire.SizeTag(scopeSpans) + protowire.SizeBytes(scoped)
	b = protowire.AppendVarint(protowire.AppendTag(b, resourceSpans, protowire.BytesType), uint64(inner))
	b = append(b, e.resource...)
	b = protowire.AppendVarint(protowire.AppendTag(b, scopeSpans, protowire.BytesType), uint64(scoped))
	return append(append(b, e.scope...), spans...)
}

// judgeHTTP returns an error for a status that is none of success.
func (e *exporter) judgeHTTP(r *http.Response) error {
	if r.StatusCode >= 200 && r.StatusCode < 300 {
		return nil
	}
	err := fmt.Errorf("collector %s: HTTP status %d", e.endpoint, r.StatusCode)
	switch r.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		seconds, _ := strconv.Atoi(r.Header.Get("Retry-After")) // 0 for what is no number
		return &laterError{err, time.Duration(max(seconds, 0)) * time.Second}
	}
	return err
}

// The statuses of gRPC after which OTLP sends again.
var grpcLater = map[string]bool{"1": true, "4": true, "8": true, "10": true, "11": true, "14": true, "15": true}

// judgeGRPC returns an error for a status other than 0.
func (e *exporter) judgeGRPC(r *http.Response) error {
	if r.StatusCode != http.StatusOK {
		return e.judgeHTTP(r)
	}
	// An answer without a message has the status in its header.
	status, message := r.Trailer.Get("Grpc-Status"), r.Trailer.Get("Grpc-Message")
	if status == "" {
		status, message = r.Header.Get("Grpc-Status"), r.Header.Get("Grpc-Message")
	}
	if status == "0" {
		return nil
	}
	err := fmt.Errorf("collector %s: gRPC status %q %.200q", e.endpoint, status, message)
	if grpcLater[status] {
		return &laterError{err, 0}
	}
	return err
}

// rejected reads the number of spans that an ExportTraceServiceResponse says were refused. What cannot be read says nothing.
func rejected(answer []byte) uint64 {
	partial, err := field(answer, 1, protowire.BytesType)
	if err != nil {
		return 0
	}
	message, n := protowire.ConsumeBytes(partial)
	if n < 0 {
		return 0
	}
	count, err := field(message, 1, protowire.VarintType)
	if err != nil {
		return 0
	}
	v, n := protowire.ConsumeVarint(count)
	if n < 0 || int64(v) < 0 {
		return 0
	}
	return v
}

var errNoField = errors.New("no such field")

// field returns what follows the tag of a field of a message.
func field(message []byte, number protowire.Number, kind protowire.Type) ([]byte, error) {
	for len(message) > 0 {
		num, typ, n := protowire.ConsumeTag(message)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		message = message[n:]
		if num == number && typ == kind {
			return message, nil
		}
		if n = protowire.ConsumeFieldValue(num, typ, message); n < 0 {
			return nil, protowire.ParseError(n)
		}
		message = message[n:]
	}
	return nil, errNoField
}
