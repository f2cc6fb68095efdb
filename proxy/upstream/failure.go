package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
)

// Failure says what went wrong between the proxy and an Endpoint.
type Failure uint8

// The failures.
const (
	// NoFailure is the Failure of a nil error.
	NoFailure Failure = iota
	// Refused: the Pod's address answered the SYN with a reset.
	Refused
	// Timeout: no answer to the SYN within the connect timeout.
	Timeout
	// Unreachable: any other failure to connect that the network reported.
	Unreachable
	// Handshake: what follows the connect failed: TLS, or the first words of HTTP/2.
	Handshake
	// Untrusted: the Pod's certificate is not good.
	Untrusted
	// Reset: a fresh connection was reset or closed before the first byte of an answer. Only the engine can know.
	Reset
	// Local: this machine had no descriptor, port or memory left for a connection.
	Local
	// Canceled: the caller gave up.
	Canceled
	// Gone: the Endpoint left its Pool before anything was sent to it; ask View.Next again.
	Gone
	// Limited: a limit of the Options was reached.
	Limited
)

var failureNames = [...]string{"none", "refused", "timeout", "unreachable", "handshake", "untrusted", "reset", "local", "canceled", "gone", "limited"}

// String returns the lower-case word that logs and metrics use.
func (f Failure) String() string { return failureNames[f] }

// Counts reports whether f is held against the Endpoint by passive health.
func (f Failure) Counts() bool { return f >= Refused && f <= Reset }

// connecting reports whether f is a failure that a later successful connect disproves.
func (f Failure) connecting() bool { return f >= Refused && f <= Untrusted }

// The errors of Acquire, Reserve and Dial that are not *DialError. KindOf tells them apart from others.
var (
	// ErrGone says that the Endpoint is no longer in use by its Pool.
	ErrGone = errors.New("endpoint left its pool")
	// ErrEndpointLimit and ErrServiceLimit say that a limit of the Options was reached.
	ErrEndpointLimit = errors.New("endpoint is at its limit")
	ErrServiceLimit  = errors.New("service is at its limit")
)

// DialError is a connect that failed.
type DialError struct {
	Kind Failure
	Addr netip.AddrPort
	Pod  string
	Err  error
}

// Error describes the failure with address and Pod.
func (e *DialError) Error() string {
	if e.Pod == "" {
		return fmt.Sprintf("connect to %s: %s: %v", e.Addr, e.Kind, e.Err)
	}
	return fmt.Sprintf("connect to %s (pod %s): %s: %v", e.Addr, e.Pod, e.Kind, e.Err)
}

// Unwrap returns the network's error.
func (e *DialError) Unwrap() error { return e.Err }

// Timeout reports whether the connect timed out, as net.Error has it.
func (e *DialError) Timeout() bool { return e.Kind == Timeout }

// KindOf returns the Failure that an error of this package stands for; Unreachable for errors of other origin.
func KindOf(err error) Failure {
	var d *DialError
	switch {
	case err == nil:
		return NoFailure
	case errors.As(err, &d):
		return d.Kind
	case errors.Is(err, ErrGone):
		return Gone
	case errors.Is(err, ErrEndpointLimit), errors.Is(err, ErrServiceLimit):
		return Limited
	}
	return classify(err)
}

// handshakeFailed is what went wrong after the connect.
type handshakeFailed struct{ error }

// Unwrap returns the cause.
func (h handshakeFailed) Unwrap() error { return h.error }

// classify sorts an error of connecting.
func classify(err error) Failure {
	if h, ok := errors.AsType[handshakeFailed](err); ok {
		return classifyHandshake(h.error)
	}
	var n net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case outOfDescriptors(err), errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.ENOBUFS),
		errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EAGAIN):
		return Local
	case errors.Is(err, context.Canceled):
		return Canceled
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &n) && n.Timeout():
		return Timeout
	}
	return Unreachable
}

func classifyHandshake(err error) Failure {
	if _, ok := errors.AsType[untrusted](err); ok {
		return Untrusted
	}
	if kind := classify(err); kind == Timeout || kind == Canceled || kind == Local {
		return kind
	}
	return Handshake
}

func outOfDescriptors(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
