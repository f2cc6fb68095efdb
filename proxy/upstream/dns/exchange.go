package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// The ways in which one server can fail to answer; the next one is asked then.
var (
	errMalformed = errors.New("malformed answer")
	errLame      = errors.New("the server refers to others instead of answering")
	errTruncated = errors.New("truncated answer over TCP")
)

// ask sends q to the servers in order, as often as the settings say, until one answers. An answer may say that the name does not exist.
func (r *Resolver) ask(ctx context.Context, s settings, q dnsmessage.Question) (reply, error) {
	var last error
	for range s.attempts {
		for _, server := range s.servers {
			m, err := r.askServer(ctx, s, server, q)
			if err == nil {
				return m, nil
			}
			last = fmt.Errorf("server %s: %w", server, err)
			if ctx.Err() != nil {
				return reply{}, last
			}
		}
	}
	return reply{}, last
}

func (r *Resolver) askServer(ctx context.Context, s settings, server netip.AddrPort, q dnsmessage.Question) (reply, error) {
	networks := []string{"udp", "tcp"}
	if s.tcp {
		networks = networks[1:]
	}
	for _, network := range networks {
		m, err := r.roundTrip(ctx, s.timeout, network, server, q)
		if err != nil {
			return reply{}, err
		}
		if !m.truncated {
			return m, m.judge()
		}
	}
	return reply{}, errTruncated
}

// roundTrip asks one server over one connection of its own, so that each question has its own port beside its own number.
func (r *Resolver) roundTrip(ctx context.Context, timeout time.Duration, network string, server netip.AddrPort, q dnsmessage.Question) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c, err := r.dial(ctx, network, server)
	if err != nil {
		return reply{}, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	id := uint16(rand.Uint32())
	msg := dnsmessage.Message{Header: dnsmessage.Header{ID: id, RecursionDesired: true}, Questions: []dnsmessage.Question{q}}
	packed, err := msg.Pack()
	if err != nil {
		return reply{}, err
	}
	if network == "tcp" {
		return stream(c, packed, id, q)
	}
	if _, err := c.Write(packed); err != nil {
		return reply{}, err
	}
	b := make([]byte, 4096)
	for {
		n, err := c.Read(b)
		if err != nil {
			return reply{}, err
		}
		m, err := parseReply(b[:n], id, q)
		if errors.Is(err, errOther) {
			continue // a late answer to someone else's question, or a forged one
		}
		return m, err
	}
}

func (r *Resolver) dial(ctx context.Context, network string, server netip.AddrPort) (net.Conn, error) {
	if r.Dial != nil {
		return r.Dial(ctx, network, server)
	}
	var d net.Dialer
	return d.DialContext(ctx, network, server.String())
}

// stream asks over TCP: each message has its length before it.
func stream(c net.Conn, packed []byte, id uint16, q dnsmessage.Question) (reply, error) {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(packed)))
	if _, err := c.Write(append(b, packed...)); err != nil {
		return reply{}, err
	}
	if _, err := io.ReadFull(c, b); err != nil {
		return reply{}, err
	}
	b = make([]byte, binary.BigEndian.Uint16(b))
	if _, err := io.ReadFull(c, b); err != nil {
		return reply{}, err
	}
	m, err := parseReply(b, id, q)
	if errors.Is(err, errOther) {
		err = errMalformed
	}
	return m, err
}

// reply is what matters of an answer.
type reply struct {
	code      dnsmessage.RCode
	truncated bool
	lame      bool
	aliases   map[string]alias // by lower-case name
	addrs     map[string][]netip.Addr
	ttl       map[string]time.Duration
}

type alias struct {
	to  string
	ttl time.Duration
}

// errOther says that a message is not the answer to our question.
var errOther = errors.New("not the answer to this question")

// parseReply parses b as the answer to q.
func parseReply(b []byte, id uint16, q dnsmessage.Question) (reply, error) {
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil || !h.Response || h.ID != id {
		return reply{}, errOther
	}
	asked, err := p.Question()
	if err != nil || asked.Type != q.Type || asked.Class != q.Class || !strings.EqualFold(asked.Name.String(), q.Name.String()) {
		return reply{}, errOther
	}
	if err := p.SkipAllQuestions(); err != nil {
		return reply{}, errMalformed
	}
	m := reply{
		code: h.RCode, truncated: h.Truncated,
		aliases: map[string]alias{}, addrs: map[string][]netip.Addr{}, ttl: map[string]time.Duration{},
	}
	if m.truncated {
		return m, nil // it is asked for again; what is here may be cut anywhere
	}
	answers, err := m.answers(&p)
	if err != nil {
		return reply{}, errMalformed
	}
	m.lame = h.RCode == dnsmessage.RCodeSuccess && answers == 0 && !h.Authoritative && !h.RecursionAvailable
	return m, nil
}

// answers reads the answer section and returns the number of its records.
func (m *reply) answers(p *dnsmessage.Parser) (n int, err error) {
	for ; ; n++ {
		h, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		name := strings.ToLower(h.Name.String())
		ttl := time.Duration(h.TTL) * time.Second
		if h.TTL > 1<<31-1 {
			ttl = 0 // RFC 2181, section 8
		}
		switch {
		case h.Class != dnsmessage.ClassINET:
			err = p.SkipAnswer()
		case h.Type == dnsmessage.TypeA:
			var r dnsmessage.AResource
			if r, err = p.AResource(); err == nil {
				m.add(name, netip.AddrFrom4(r.A), ttl)
			}
		case h.Type == dnsmessage.TypeAAAA:
			var r dnsmessage.AAAAResource
			if r, err = p.AAAAResource(); err == nil {
				m.add(name, netip.AddrFrom16(r.AAAA), ttl)
			}
		case h.Type == dnsmessage.TypeCNAME:
			var r dnsmessage.CNAMEResource
			if r, err = p.CNAMEResource(); err == nil {
				m.aliases[name] = alias{r.CNAME.String(), ttl}
			}
		default:
			err = p.SkipAnswer()
		}
		if err != nil {
			return n, err
		}
	}
}

func (m *reply) add(name string, a netip.Addr, ttl time.Duration) {
	if old, ok := m.ttl[name]; !ok || ttl < old {
		m.ttl[name] = ttl
	}
	m.addrs[name] = append(m.addrs[name], a)
}

// judge returns an error where another server may know better.
func (m *reply) judge() error {
	switch {
	case m.lame:
		return errLame
	case m.code == dnsmessage.RCodeSuccess, m.code == dnsmessage.RCodeNameError:
		return nil
	}
	return codeError(m.code)
}

// codeError is an answer that says that the server failed or refused.
type codeError dnsmessage.RCode

// Error returns the code's name.
func (e codeError) Error() string { return "answer " + dnsmessage.RCode(e).String() }

// resolve follows the aliases of the answer from q's name on. It returns the addresses at the end, if they are in the answer,
// and the name at which the chain ends: q's own where there is no alias, or where the aliases lead nowhere.
func (m *reply) resolve(q dnsmessage.Question) (a Answer, end string) {
	start := q.Name.String()
	a.TTL, end = maxTTL, start
	for range len(m.aliases) + 1 {
		name := strings.ToLower(end)
		if addrs := m.addrs[name]; len(addrs) > 0 {
			a.TTL = min(a.TTL, m.ttl[name])
			for _, addr := range addrs {
				if addr.Is4() == (q.Type == dnsmessage.TypeA) {
					a.add(addr)
				}
			}
			return a, end
		}
		next, ok := m.aliases[name]
		if !ok {
			if m.code == dnsmessage.RCodeNameError {
				return a, start // the end of the chain does not exist
			}
			return a, end
		}
		a.TTL = min(a.TTL, next.ttl)
		end = next.to
	}
	return Answer{TTL: maxTTL}, start // a loop
}
