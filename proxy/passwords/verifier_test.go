package passwords_test

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"podlane.dev/podlane/proxy/passwords"
)

// home is the client's address.
var home = netip.MustParseAddr("192.0.2.1")

// slow is a file with one user, alice, whose password "secret" takes some time.
func slow(t testing.TB) *passwords.File {
	t.Helper()
	f, err := passwords.ParseFile("alice:$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG.")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestWhoIsRightIsCheckedOnce(t *testing.T) {
	t.Parallel()
	v, f := passwords.NewVerifier(1), slow(t)
	for range 5 {
		if got := v.Verify(f, home, []byte("alice"), []byte("secret")); got != passwords.Right {
			t.Fatal(got)
		}
	}
	if n := v.Checked(); n != 1 {
		t.Errorf("checked %d times, want once", n)
	}
	// The same file, read again: nobody has to be checked again. With another hash they are.
	if v.Verify(slow(t), home, []byte("alice"), []byte("secret")); v.Checked() != 1 {
		t.Error("checked again for a file that is read again")
	}
	other, err := passwords.ParseFile("alice:$6$s$" + strings.Repeat("a", 86))
	if err != nil {
		t.Fatal(err)
	}
	if got := v.Verify(other, home, []byte("alice"), []byte("secret")); got != passwords.Wrong {
		t.Errorf("with another hash: %v", got)
	}
	// What is wrong is checked each time, for users and strangers alike; a stranger does not get in with what is known of another.
	before := v.Checked()
	for _, user := range []string{"alice", "mallory"} {
		for range 3 {
			if got := v.Verify(f, home, []byte(user), []byte("guess")); got != passwords.Wrong {
				t.Error(user, got)
			}
		}
	}
	if got := v.Verify(f, home, []byte("mallory"), []byte("secret")); got != passwords.Wrong {
		t.Errorf("a stranger with alice's password: %v", got)
	}
	if n := v.Checked() - before; n != 7 {
		t.Errorf("%d checks of what is wrong, want 7", n)
	}
	if got := v.Verify(f, home, []byte("alice"), []byte(strings.Repeat("long", 100))); got != passwords.Wrong || v.Checked()-before != 7 {
		t.Errorf("a password that is too long: %v after %d checks", got, v.Checked()-before)
	}
}

func TestKnownPasswordsAllocateNothing(t *testing.T) {
	v, f := passwords.NewVerifier(1), slow(t)
	user, password := []byte("alice"), []byte("secret")
	v.Verify(f, home, user, password)
	if n := testing.AllocsPerRun(100, func() {
		if v.Verify(f, home, user, password) != passwords.Right {
			t.Fatal("wrong")
		}
	}); n != 0 && !raceEnabled {
		t.Errorf("%v allocations", n)
	}
}

// TestFloodOfWrongPasswords: of many checks at once few run, a bounded number waits, and the rest hears at once that there are too many; who is known
// gets in meanwhile.
func TestFloodOfWrongPasswords(t *testing.T) {
	t.Parallel()
	v, f := passwords.NewVerifier(1), slow(t)
	if v.Verify(f, home, []byte("alice"), []byte("secret")) != passwords.Right {
		t.Fatal("wrong")
	}
	const flood = 300
	var results [3]atomic.Int64
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range flood {
		all.Go(func() {
			<-start
			results[v.Verify(f, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), []byte("alice"), fmt.Appendf(nil, "guess %d", i))].Add(1)
			if v.Verify(f, home, []byte("alice"), []byte("secret")) != passwords.Right {
				t.Error("who is known does not get in")
			}
		})
	}
	close(start)
	all.Wait()
	wrong, busy := results[passwords.Wrong].Load(), results[passwords.Busy].Load()
	t.Logf("%d wrong, %d busy", wrong, busy)
	if wrong+busy != flood || busy == 0 || wrong == 0 || results[passwords.Right].Load() != 0 {
		t.Errorf("%d wrong, %d busy of %d", wrong, busy, flood)
	}
	if n := v.Checked(); n != uint64(wrong)+1 {
		t.Errorf("%d checks, want %d", n, wrong+1)
	}
}

// TestFloodFromOneAddress: a client, or a network of IPv6, that sends wrong passwords without end takes its own waiting places only.
func TestFloodFromOneAddress(t *testing.T) {
	t.Parallel()
	for name, from := range map[string]func(i int) netip.Addr{
		"IPv4": func(int) netip.Addr { return netip.MustParseAddr("198.51.100.1") },
		"IPv6": func(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2001:db8:0:1::%x", i)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := slow(t)
			synctest.Test(t, func(t *testing.T) {
				v := passwords.NewVerifier(1)
				release := v.Occupy()
				var busy atomic.Int64
				const flood = 3 * passwords.MaxOfOne
				for i := range flood {
					go func() {
						if v.Verify(f, from(i), []byte("alice"), fmt.Appendf(nil, "guess %d", i)) == passwords.Busy {
							busy.Add(1)
						}
					}()
				}
				synctest.Wait()
				if busy.Load() != flood-passwords.MaxOfOne || v.Waiting() != passwords.MaxOfOne {
					t.Errorf("%d were turned away and %d wait, want %d and %d", busy.Load(), v.Waiting(), flood-passwords.MaxOfOne, passwords.MaxOfOne)
				}
				newcomer := passwords.Busy
				go func() { newcomer = v.Verify(f, home, []byte("alice"), []byte("secret")) }()
				synctest.Wait()
				release()
				synctest.Wait()
				if newcomer != passwords.Right || v.Waiting() != 0 {
					t.Errorf("who comes from another address hears %v, and %d wait", newcomer, v.Waiting())
				}
			})
		})
	}
}

// TestPageLoadIsCheckedOnce: requests that come at once with the same new password wait for one check.
func TestPageLoadIsCheckedOnce(t *testing.T) {
	t.Parallel()
	f := slow(t)
	synctest.Test(t, func(t *testing.T) {
		v := passwords.NewVerifier(1)
		release := v.Occupy()
		for range 8 {
			go func() {
				if got := v.Verify(f, home, []byte("alice"), []byte("secret")); got != passwords.Right {
					t.Errorf("got %v", got)
				}
			}()
		}
		synctest.Wait()
		release()
		synctest.Wait()
		if n := v.Checked(); n != 1 {
			t.Errorf("%d checks, want 1", n)
		}
	})
}

// TestMemoryOfKnownPasswordsIsBounded has more passwords that are right than are remembered.
func TestKnownPasswordsAreBounded(t *testing.T) {
	t.Parallel()
	v := passwords.NewVerifier(1)
	for i := range passwords.MaxKnown + 50 {
		v.Remember(i)
	}
	if n := v.Known(); n != passwords.MaxKnown {
		t.Errorf("%d are remembered, want %d", n, passwords.MaxKnown)
	}
}
