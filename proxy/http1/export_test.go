package http1

// Unread returns the bytes that came behind what was read.
func (c *Client) Unread() []byte { return c.in.buffered() }
