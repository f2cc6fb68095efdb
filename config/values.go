package config

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Addresses is a list of host:port to listen on; an empty list listens nowhere. It implements pflag.Value.
type Addresses []string

// Set replaces the list by the comma-separated addresses of text; "" and "off" empty it.
func (a *Addresses) Set(text string) error {
	if text == "" || text == "off" {
		*a = nil
		return nil
	}
	var list Addresses
	for part := range strings.SplitSeq(text, ",") {
		address := strings.TrimSpace(part)
		if err := checkAddress(address); err != nil {
			return err
		}
		list = append(list, address)
	}
	*a = list
	return nil
}

// checkAddress refuses names: what to listen on must not depend on DNS.
func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is not host:port: write 127.0.0.1:8080 or :8080, or off to listen nowhere", address)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q: port %q is not a number from 0 to 65535: write %s", address, port, net.JoinHostPort(host, "8080"))
	}
	if host == "" || host == "localhost" {
		return nil
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return fmt.Errorf("%q: %q is not an IP address: write 127.0.0.1:%s or :%s", address, host, port, port)
	}
	return nil
}

// String returns the addresses as Set takes them.
func (a *Addresses) String() string {
	if len(*a) == 0 {
		return "off"
	}
	return strings.Join(*a, ",")
}

// Type names the value in --help.
func (*Addresses) Type() string { return "host:port,..." }

// Prefixes is a list of address ranges. It implements pflag.Value.
type Prefixes []netip.Prefix

// Set replaces the list by the comma-separated ranges or single addresses of text.
func (p *Prefixes) Set(text string) error {
	var list Prefixes
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		if addr, err := netip.ParseAddr(part); err == nil && addr.Zone() == "" {
			list = append(list, netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()))
			continue
		}
		prefix, err := netip.ParsePrefix(part)
		if err != nil {
			return fmt.Errorf("%q is not an address range: write 10.0.0.0/8 or 192.0.2.1", part)
		}
		if masked := prefix.Masked(); masked != prefix {
			return fmt.Errorf("%q has bits set beyond its length: write %s", part, masked)
		}
		list = append(list, prefix)
	}
	*p = list
	return nil
}

// String returns the ranges as Set takes them.
func (p *Prefixes) String() string {
	var texts []string
	for _, prefix := range *p {
		texts = append(texts, prefix.String())
	}
	return strings.Join(texts, ",")
}

// Type names the value in --help.
func (*Prefixes) Type() string { return "CIDR,..." }

// Words is a comma-separated list of words. It implements pflag.Value.
type Words []string

// Set replaces the list; empty words are left out.
func (w *Words) Set(text string) error {
	*w = nil
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			*w = append(*w, part)
		}
	}
	return nil
}

// String returns the words as Set takes them.
func (w *Words) String() string { return strings.Join(*w, ",") }

// Type names the value in --help.
func (*Words) Type() string { return "word,..." }

// Size is a number of bytes, written as nginx does: digits and an optional k, m or g (powers of 1024). It implements
// pflag.Value.
type Size int64

// sizeUnits are the units of Size, largest first.
var sizeUnits = [...]struct {
	letter string
	bytes  int64
}{{"g", 1 << 30}, {"m", 1 << 20}, {"k", 1 << 10}}

// Set parses text.
func (s *Size) Set(text string) error {
	digits, unit := strings.ToLower(text), int64(1)
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(digits, u.letter); ok {
			digits, unit = rest, u.bytes
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || int64(n) > math.MaxInt64/unit {
		return fmt.Errorf("%q is not a size: write 8k, 1m or a number of bytes", text)
	}
	*s = Size(int64(n) * unit)
	return nil
}

// String returns the size with the largest unit that leaves a whole number.
func (s *Size) String() string {
	for _, u := range sizeUnits {
		if n := int64(*s); n != 0 && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.letter
		}
	}
	return strconv.FormatInt(int64(*s), 10)
}

// Type names the value in --help.
func (*Size) Type() string { return "size" }

// duration is a pflag.Value that takes Go's durations and, as ingress-nginx's flags do, plain numbers of seconds.
type duration time.Duration

// addDuration binds d to the flag name.
func addDuration(fs *pflag.FlagSet, d *time.Duration, name, usage string) {
	fs.Var((*duration)(d), name, usage)
}

// Set parses text. Durations are never negative.
func (d *duration) Set(text string) error {
	v, err := time.ParseDuration(text)
	if err != nil {
		v, err = time.ParseDuration(text + "s")
	}
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a duration: write 10s, 500ms or 2m", text)
	}
	*d = duration(v)
	return nil
}

// String returns the duration without the zero units that time.Duration ends with.
func (d *duration) String() string {
	text := time.Duration(*d).String()
	for _, unit := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, unit) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// Type names the value in --help.
func (*duration) Type() string { return "duration" }

// choice is a pflag.Value that takes one word of a closed list.
type choice struct {
	to    *string
	words []string
}

// Set accepts one of the words.
func (c choice) Set(text string) error {
	if !slices.Contains(c.words, text) {
		return fmt.Errorf("%q is unknown: write %s", text, strings.Join(c.words, ", "))
	}
	*c.to = text
	return nil
}

// String returns the chosen word.
func (c choice) String() string {
	if c.to == nil {
		return ""
	}
	return *c.to
}

// Type names the value in --help.
func (c choice) Type() string { return strings.Join(c.words, "|") }
