package upstream_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A firewall is a table of nf_tables in the sandbox's network, with one chain for packets that arrive at a local address. It is
// spoken to by netlink: the command nft is on few machines, and the few expressions that are needed here make no library
// worth its dependencies. Methods end the test when they fail.
type firewall struct{ t testing.TB }

// firewallName is the name of the table and of its chain.
const firewallName = "faults"

// A match says which packets a rule is about: those to an address, where it is valid to one port, TCP's that only want to
// open a connection (opening), and UDP's instead of TCP's.
type match struct {
	to      netip.Prefix
	port    uint16
	opening bool
	udp     bool
}

// podMatch is every packet of TCP to one address.
func podMatch(a netip.AddrPort) match {
	return match{to: netip.PrefixFrom(a.Addr(), 32), port: a.Port()}
}

// only returns m for packets that open a connection.
func (m match) only() match {
	m.opening = true
	return m
}

// newFirewall makes an empty table, which goes with the test.
func newFirewall(t testing.TB) *firewall {
	t.Helper()
	f := &firewall{t}
	hook := nl.NewRtAttr(unix.NFTA_CHAIN_HOOK|unix.NLA_F_NESTED, nil)
	hook.AddRtAttr(unix.NFTA_HOOK_HOOKNUM, be32(unix.NF_INET_LOCAL_IN))
	hook.AddRtAttr(unix.NFTA_HOOK_PRIORITY, be32(0))
	err := commit(
		message{unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, []*nl.RtAttr{text(unix.NFTA_TABLE_NAME, firewallName)}},
		message{unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, []*nl.RtAttr{
			text(unix.NFTA_CHAIN_TABLE, firewallName), text(unix.NFTA_CHAIN_NAME, firewallName), hook, text(unix.NFTA_CHAIN_TYPE, "filter"),
		}},
	)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ENOENT) {
		if ci := os.Getenv("CI"); ci == "" || ci == "false" {
			t.Skip("this kernel has no nf_tables: ", err)
		}
	}
	if err != nil {
		t.Fatal("nf_tables: ", err)
	}
	t.Cleanup(func() {
		err := commit(message{unix.NFT_MSG_DELTABLE, 0, []*nl.RtAttr{text(unix.NFTA_TABLE_NAME, firewallName)}})
		if err != nil {
			t.Error("nf_tables: ", err)
		}
	})
	return f
}

// reset answers matching packets with a TCP reset, as a machine does where nobody listens.
func (f *firewall) reset(m match) {
	f.t.Helper()
	f.rule(m, expression("reject", attr{unix.NFTA_REJECT_TYPE, be32(unix.NFT_REJECT_TCP_RST)}))
}

// drop swallows matching packets.
func (f *firewall) drop(m match) {
	f.t.Helper()
	f.rule(m, verdict(nfDrop))
}

// count lets matching packets pass, and counts them.
func (f *firewall) count(m match) {
	f.t.Helper()
	f.rule(m, verdict(nfAccept))
}

// lose swallows one in n packets, by chance.
func (f *firewall) lose(m match, n uint32) {
	f.t.Helper()
	f.rule(m,
		expression("numgen",
			attr{unix.NFTA_NG_DREG, be32(unix.NFT_REG_1)}, attr{unix.NFTA_NG_MODULUS, be32(n)}, attr{unix.NFTA_NG_TYPE, be32(unix.NFT_NG_RANDOM)}),
		compare(unix.NFT_CMP_EQ, be32(0)),
		verdict(nfDrop))
}

// clear removes all rules.
func (f *firewall) clear() {
	f.t.Helper()
	err := commit(message{unix.NFT_MSG_DELRULE, 0, []*nl.RtAttr{text(unix.NFTA_RULE_TABLE, firewallName), text(unix.NFTA_RULE_CHAIN, firewallName)}})
	if err != nil {
		f.t.Fatal("nf_tables: ", err)
	}
}

// packets returns how many packets each rule has acted on, in the order in which the rules were made.
func (f *firewall) packets() []uint64 {
	f.t.Helper()
	q := asked(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP)
	q.AddData(text(unix.NFTA_RULE_TABLE, firewallName))
	rules, err := q.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		f.t.Fatal("nf_tables: ", err)
	}
	var all []uint64
	for _, r := range rules {
		n, err := packetsOf(r[nfgenLen:])
		if err != nil {
			f.t.Fatal("nf_tables: ", err)
		}
		all = append(all, n)
	}
	return all
}

// packetsOf finds the counter among a rule's expressions.
func packetsOf(rule []byte) (uint64, error) {
	expressions, err := find(rule, unix.NFTA_RULE_EXPRESSIONS)
	if err != nil {
		return 0, err
	}
	list, err := nl.ParseRouteAttr(expressions)
	if err != nil {
		return 0, err
	}
	for _, e := range list {
		name, err := find(e.Value, unix.NFTA_EXPR_NAME)
		if err != nil || nl.BytesToString(name) != "counter" {
			continue
		}
		data, err := find(e.Value, unix.NFTA_EXPR_DATA)
		if err != nil {
			return 0, err
		}
		n, err := find(data, unix.NFTA_COUNTER_PACKETS)
		if err != nil {
			return 0, err
		}
		return binary.BigEndian.Uint64(n), nil
	}
	return 0, errors.New("a rule without a counter")
}

// find returns the value of an attribute.
func find(b []byte, kind uint16) ([]byte, error) {
	all, err := nl.ParseRouteAttr(b)
	if err != nil {
		return nil, err
	}
	for _, a := range all {
		if a.Attr.Type&^unix.NLA_F_NESTED == kind {
			return a.Value, nil
		}
	}
	return nil, fmt.Errorf("no attribute %d", kind)
}

// rule adds a rule: for the packets of m it counts, and then does what the expressions say.
func (f *firewall) rule(m match, then ...*nl.RtAttr) {
	f.t.Helper()
	list := nl.NewRtAttr(unix.NFTA_RULE_EXPRESSIONS|unix.NLA_F_NESTED, nil)
	all := slices.Concat(m.expressions(), then[:len(then)-1], []*nl.RtAttr{
		expression("counter", attr{unix.NFTA_COUNTER_BYTES, make([]byte, 8)}, attr{unix.NFTA_COUNTER_PACKETS, make([]byte, 8)}),
		then[len(then)-1],
	})
	for _, e := range all {
		list.AddChild(e)
	}
	err := commit(message{unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE | unix.NLM_F_APPEND, []*nl.RtAttr{
		text(unix.NFTA_RULE_TABLE, firewallName), text(unix.NFTA_RULE_CHAIN, firewallName), list,
	}})
	if err != nil {
		f.t.Fatal("nf_tables: ", err)
	}
}

// Where fields are in the headers of IPv4, TCP and UDP, and TCP's flags.
const (
	offsetProtocol = 9
	offsetTo       = 16
	offsetPort     = 2
	offsetFlags    = 13
	flagSYN        = 2
	flagACK        = 16
)

// expressions are the comparisons that m stands for.
func (m match) expressions() []*nl.RtAttr {
	protocol := byte(unix.IPPROTO_TCP)
	if m.udp {
		protocol = unix.IPPROTO_UDP
	}
	to := m.to.Masked().Addr().As4()
	mask := binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-m.to.Bits()))
	all := []*nl.RtAttr{
		field(unix.NFT_PAYLOAD_NETWORK_HEADER, offsetProtocol, 1), compare(unix.NFT_CMP_EQ, []byte{protocol}),
		field(unix.NFT_PAYLOAD_NETWORK_HEADER, offsetTo, 4), and(mask), compare(unix.NFT_CMP_EQ, to[:]),
	}
	if m.port != 0 {
		all = append(all, field(unix.NFT_PAYLOAD_TRANSPORT_HEADER, offsetPort, 2), compare(unix.NFT_CMP_EQ, binary.BigEndian.AppendUint16(nil, m.port)))
	}
	if m.opening {
		all = append(all, field(unix.NFT_PAYLOAD_TRANSPORT_HEADER, offsetFlags, 1), and([]byte{flagSYN | flagACK}), compare(unix.NFT_CMP_EQ, []byte{flagSYN}))
	}
	return all
}

type attr struct {
	kind  int
	value []byte
}

// expression is one element of a rule.
func expression(name string, attrs ...attr) *nl.RtAttr {
	e := nl.NewRtAttr(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, nil)
	e.AddChild(text(unix.NFTA_EXPR_NAME, name))
	data := e.AddRtAttr(unix.NFTA_EXPR_DATA|unix.NLA_F_NESTED, nil)
	for _, a := range attrs {
		data.AddRtAttr(a.kind, a.value)
	}
	return e
}

// field puts bytes of a packet into the register.
func field(base, offset, length uint32) *nl.RtAttr {
	return expression("payload",
		attr{unix.NFTA_PAYLOAD_DREG, be32(unix.NFT_REG_1)}, attr{unix.NFTA_PAYLOAD_BASE, be32(base)},
		attr{unix.NFTA_PAYLOAD_OFFSET, be32(offset)}, attr{unix.NFTA_PAYLOAD_LEN, be32(length)})
}

// and keeps the bits of the register that are in mask.
func and(mask []byte) *nl.RtAttr {
	return expression("bitwise",
		attr{unix.NFTA_BITWISE_SREG, be32(unix.NFT_REG_1)}, attr{unix.NFTA_BITWISE_DREG, be32(unix.NFT_REG_1)},
		attr{unix.NFTA_BITWISE_LEN, be32(uint32(len(mask)))},
		attr{unix.NFTA_BITWISE_MASK | unix.NLA_F_NESTED, value(mask)}, attr{unix.NFTA_BITWISE_XOR | unix.NLA_F_NESTED, value(make([]byte, len(mask)))})
}

// compare ends the rule for packets for which the register is not as it should be.
func compare(how uint32, with []byte) *nl.RtAttr {
	return expression("cmp",
		attr{unix.NFTA_CMP_SREG, be32(unix.NFT_REG_1)}, attr{unix.NFTA_CMP_OP, be32(how)}, attr{unix.NFTA_CMP_DATA | unix.NLA_F_NESTED, value(with)})
}

func value(b []byte) []byte { return nl.NewRtAttr(unix.NFTA_DATA_VALUE, b).Serialize() }

// The verdicts of netfilter.
const (
	nfDrop   = 0
	nfAccept = 1
)

func verdict(code uint32) *nl.RtAttr {
	v := nl.NewRtAttr(unix.NFTA_DATA_VERDICT|unix.NLA_F_NESTED, nil)
	v.AddRtAttr(unix.NFTA_VERDICT_CODE, be32(code))
	return expression("immediate", attr{unix.NFTA_IMMEDIATE_DREG, be32(unix.NFT_REG_VERDICT)}, attr{unix.NFTA_IMMEDIATE_DATA | unix.NLA_F_NESTED, v.Serialize()})
}

func be32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func text(kind int, s string) *nl.RtAttr { return nl.NewRtAttr(kind, nl.ZeroTerminated(s)) }

// A message is one change in a batch.
type message struct {
	kind, flags int
	attrs       []*nl.RtAttr
}

// nfgen is the header of each message of netfilter (struct nfgenmsg).
type nfgen struct {
	family   byte
	resource uint16
}

const nfgenLen = 4

func (nfgen) Len() int { return nfgenLen }
func (n nfgen) Serialize() []byte {
	return []byte{n.family, unix.NFNETLINK_V0, byte(n.resource >> 8), byte(n.resource)}
}

func asked(kind, flags int) *nl.NetlinkRequest {
	q := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags)
	q.AddData(nfgen{family: unix.NFPROTO_IPV4})
	return q
}

// commit makes all changes, or none.
func commit(changes ...message) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	// nf_tables takes changes only between these two, in one write.
	begin, end := nl.NewNetlinkRequest(unix.NFNL_MSG_BATCH_BEGIN, 0), nl.NewNetlinkRequest(unix.NFNL_MSG_BATCH_END, 0)
	begin.AddData(nfgen{resource: unix.NFNL_SUBSYS_NFTABLES})
	end.AddData(nfgen{resource: unix.NFNL_SUBSYS_NFTABLES})
	batch := begin.Serialize()
	for _, c := range changes {
		q := asked(c.kind, c.flags|unix.NLM_F_ACK)
		for _, a := range c.attrs {
			q.AddData(a)
		}
		batch = append(batch, q.Serialize()...)
	}
	batch = append(batch, end.Serialize()...)
	if err := unix.Sendto(fd, batch, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	return acknowledged(fd, len(changes))
}

// acknowledged reads the answers to n messages.
func acknowledged(fd, n int) error {
	buf := make([]byte, 16<<10)
	for n > 0 {
		size, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return err
		}
		answers, err := syscall.ParseNetlinkMessage(buf[:size])
		if err != nil {
			return err
		}
		for _, a := range answers {
			if a.Header.Type != unix.NLMSG_ERROR {
				continue
			}
			if code := int32(binary.NativeEndian.Uint32(a.Data)); code != 0 {
				return unix.Errno(-code)
			}
			n--
		}
	}
	return nil
}
