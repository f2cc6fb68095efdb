package proxy

import (
	"time"
)

const (
	// refusedDrain bounds what is read after a refused request, so that the refusal is not lost in a reset.
	refusedDrain     = 64 << 10
	refusedDrainTime = time.Second
	// maxLingering bounds the connections that discard at one time.
	maxLingering = 1024
)

// closeWrite ends our side of the connection: FIN, after close_notify on TLS.
func (c *conn) closeWrite() bool {
	w, ok := c.nc.(interface{ CloseWrite() error })
	return ok && w.CloseWrite() == nil
}

// leave has nothing to do: the answer says that it is the last one.
func (c *conn) leave() {}

// lingerBriefly is the drain after a refused request.
func (c *conn) lingerBriefly() {
	if c.closeWrite() {
		c.discard(refusedDrainTime, refusedDrainTime, refusedDrain)
	}
}

// linger discards what a client still sends of a well-framed request that was answered early, so that it reads the answer instead of a
// reset.
func (c *conn) linger() {
	if c.e.lingering.Add(1) <= maxLingering && c.closeWrite() {
		c.discard(c.e.timeouts.Linger, c.e.timeouts.LingerSilence, 1<<62)
	}
	c.e.lingering.Add(-1)
}

func (c *conn) discard(total, silence time.Duration, bytes int64) {
	end := time.Now().Add(total)
	var buf [2048]byte
	for bytes > 0 {
		deadline := time.Now().Add(silence)
		if deadline.After(end) {
			deadline = end
		}
		if c.nc.SetReadDeadline(deadline) != nil {
			return
		}
		n, err := c.nc.Read(buf[:])
		bytes -= int64(n)
		if err != nil || !time.Now().Before(end) {
			return
		}
	}
}
