package proxy

// parking holds the connections that sleep, in the order in which they fell asleep, which is that of their deadlines as long as all have the same
// time: so a sweep looks at the first ones only, however many there are. The sweeper's lock guards it.
type parking struct {
	first, last *conn
	len         int
	// shorter says that those who fall asleep now have less time than others: then a sweep looks at all.
	shorter func() bool
}

func (p *parking) add(c *conn) {
	c.before, c.behind = p.last, nil
	if p.last == nil {
		p.first = c
	} else {
		p.last.behind = c
	}
	p.last = c
	p.len++
}

func (p *parking) remove(c *conn) {
	if c.before == nil {
		p.first = c.behind
	} else {
		c.before.behind = c.behind
	}
	if c.behind == nil {
		p.last = c.before
	} else {
		c.behind.before = c.before
	}
	c.before, c.behind = nil, nil
	p.len--
}

// sweep interrupts those whose time is over.
func (p *parking) sweep(now int64) {
	for c := p.first; c != nil; c = c.behind {
		w := c.main.word.Load()
		if markOf(w) != unmarked {
			continue // on its way out
		}
		if now > deadlineOf(w) {
			c.main.interrupt(w, expired, &c.call)
		} else if !p.shorter() {
			return
		}
	}
}
