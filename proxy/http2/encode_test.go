package http2

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2/hpack"
	"pgregory.net/rapid"

	"podlane.dev/podlane/proxy/exchange"
)

// TestEncodedBlocksDecode: what the encoder writes, x/net's decoder reads as the same fields, lower-case, whatever their size.
func TestEncodedBlocksDecode(t *testing.T) {
	t.Parallel()
	names := []string{"Content-Type", "ETag", "x-unknown", "Set-Cookie", "X-Request-ID", "Vary", "server", strings.Repeat("N", 200)}
	rapid.Check(t, func(t *rapid.T) {
		status := rapid.IntRange(100, 999).Draw(t, "status")
		var f exchange.Fields
		want := []hpack.HeaderField{{Name: ":status", Value: fmt.Sprint(status)}}
		for range rapid.IntRange(0, 10).Draw(t, "n") {
			name := rapid.SampledFrom(names).Draw(t, "name")
			value := rapid.StringMatching(`[ -~]{0,300}`).Draw(t, "value")
			f.AddString(name, value)
			want = append(want, hpack.HeaderField{Name: strings.ToLower(name), Value: value, Sensitive: name == "Set-Cookie"})
		}
		f.AddString("Connection", "close")
		f.AddString("Keep-Alive", "5")
		got, err := hpack.NewDecoder(0, nil).DecodeFull(appendFields(appendStatus(nil, status), &f))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestStaticTable: our names have the indices of x/net's table.
func TestStaticTable(t *testing.T) {
	t.Parallel()
	for i, name := range staticNames {
		fields, err := hpack.NewDecoder(0, nil).DecodeFull(appendIndexed(nil, uint64(indexFirstName+i), "v"))
		if err != nil || len(fields) != 1 || fields[0].Name != name {
			t.Errorf("index %d: %v, %v; want %s", indexFirstName+i, fields, err, name)
		}
	}
	for index, want := range map[uint64]hpack.HeaderField{
		indexMethodGet: {Name: ":method", Value: "GET"}, indexMethodPost: {Name: ":method", Value: "POST"}, indexPath: {Name: ":path", Value: "/"},
		indexHTTP: {Name: ":scheme", Value: "http"}, indexHTTPS: {Name: ":scheme", Value: "https"}, indexStatus200: {Name: ":status", Value: "200"},
	} {
		fields, err := hpack.NewDecoder(0, nil).DecodeFull(appendInt(nil, indexed, 7, index))
		if err != nil || len(fields) != 1 || fields[0] != want {
			t.Errorf("index %d: %v, %v; want %v", index, fields, err, want)
		}
	}
}

// TestQueueKeepsOrder holds the queue to a slice, and TestTable the table to a map.
func TestQueueKeepsOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var q queue
		var want []*stream
		all := make([]stream, 6)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			s := &all[rapid.IntRange(0, len(all)-1).Draw(t, "stream")]
			at := -1
			for i := range want {
				if want[i] == s {
					at = i
				}
			}
			if at < 0 {
				q.push(s)
				want = append(want, s)
			} else {
				q.remove(s)
				q.remove(s)
				want = append(want[:at:at], want[at+1:]...)
			}
			var got []*stream
			for s := q.first; s != nil; s = s.send.behind {
				got = append(got, s)
			}
			if len(got) != len(want) {
				t.Fatalf("%d streams, want %d", len(got), len(want))
			}
			for i := range got {
				if got[i] != want[i] {
					t.Fatal("wrong order")
				}
			}
			if len(want) > 0 && q.last != want[len(want)-1] || len(want) == 0 && q.last != nil {
				t.Fatal("wrong end")
			}
		}
	})
}

func TestTable(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var tab table
		want := map[uint32]*stream{}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			id := uint32(rapid.IntRange(0, 60).Draw(t, "id")*2 + 1)
			if s := want[id]; s != nil {
				tab.remove(s)
				delete(want, id)
			} else {
				s := &stream{id: id}
				tab.add(s)
				want[id] = s
			}
			for id := uint32(1); id < 123; id += 2 {
				if tab.find(id) != want[id] {
					t.Fatalf("stream %d", id)
				}
			}
			n := 0
			tab.each(func(*stream) { n++ })
			if n != len(want) || tab.len != n {
				t.Fatalf("%d streams, want %d", n, len(want))
			}
		}
	})
}

// TestRecent: the last streams are remembered, and how they ended.
func TestRecent(t *testing.T) {
	t.Parallel()
	var r recent
	for id := uint32(1); id < 1001; id += 2 {
		r.add(id, closing(id/2%2))
	}
	for id := uint32(1); id < 1001; id += 2 {
		want := closing(id / 2 % 2)
		if id < 1001-2*uint32(len(r.ids)) {
			want = unknown
		}
		if got := r.how(id); got != want {
			t.Errorf("stream %d: %d, want %d", id, got, want)
		}
	}
}
