package limit_test

import (
	"encoding/binary"
	"fmt"
	"time"

	"podlane.dev/podlane/proxy/limit"
)

// at is a time, in milliseconds.
func at(ms int64) int64 { return ms * int64(time.Millisecond) }

// client is the n-th client's address as a key.
func client(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }

func id(n int) limit.ID {
	return limit.ID{Namespace: "shop", Ingress: fmt.Sprint("web", n), Name: "limit-rps"}
}

// perSecond is limit-rps: ingress-nginx's burst is five times the rate.
func perSecond(n int) limit.Rate { return limit.Rate{Requests: n, Per: time.Second, Burst: 5 * n} }
