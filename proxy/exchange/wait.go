package exchange

import (
	"context"
	"time"
)

// Waiter lets a filter wait for somebody other than the client and the Pod. The engine is the Waiter of the Exchanges that it serves.
type Waiter interface {
	// Wait calls f on the goroutine of the exchange, with a context that ends when the client has gone away, when the exchange is aborted, or
	// after limit. f must return soon after that. Where the client has gone, no answer is sent, whatever the filter makes.
	Wait(limit time.Duration, f func(ctx context.Context))
}

// Grant is what an authentication service said of the client of a request. It is immutable, and may be that of many requests.
type Grant struct {
	// Fields are for the Pod.
	Fields []Field
	// Cookies are values of Set-Cookie for the client.
	Cookies []string
}

// Field is a name and a value.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}
