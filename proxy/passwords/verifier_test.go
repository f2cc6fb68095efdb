package passwords_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"podlane.dev/podlane/proxy/passwords"
)

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
		if got := v.Verify(f, []byte("alice"), []byte("secret")); got != passwords.Right {
			t.Fatal(got)
		}
	}
	if n := v.Checked(); n != 1 {
		t.Errorf("checked %d times, want once", n)
	}
	// The same file, read again: nobody has to be checked again. With another hash they are.
	if v.Verify(slow(t), []byte("alice"), []byte("secret")); v.Checked() != 1 {
		t.Error("checked again for a file that is read again")
	}
	other, err := passwords.ParseFile("alice:$6$s$" + strings.Repeat("a", 86))
	if err != nil {
		t.Fatal(err)
	}
	if got := v.Verify(other, []byte("alice"), []byte("secret")); got != passwords.Wrong {
		t.Errorf("with another hash: %v", got)
	}
	// What is wrong is checked each time, for users and strangers alike; a stranger does not get in with what is known of another.
	before := v.Checked()
	for _, user := range []string{"alice", "mallory"} {
		for range 3 {
			if got := v.Verify(f, []byte(user), []byte("guess")); got != passwords.Wrong {
				t.Error(user, got)
			}
		}
	}
	if got := v.Verify(f, []byte("mallory"), []byte("secret")); got != passwords.Wrong {
		t.Errorf("a stranger with alice's password: %v", got)
	}
	if n := v.Checked() - before; n != 7 {
		t.Errorf("%d checks of what is wrong, want 7", n)
	}
	if got := v.Verify(f, []byte("alice"), []byte(strings.Repeat("long", 100))); got != passwords.Wrong || v.Checked()-before != 7 {
		t.Errorf("a password that is too long: %v after %d checks", got, v.Checked()-before)
	}
}

func TestKnownPasswordsAllocateNothing(t *testing.T) {
	v, f := passwords.NewVerifier(1), slow(t)
	user, password := []byte("alice"), []byte("secret")
	v.Verify(f, user, password)
	if n := testing.AllocsPerRun(100, func() {
		if v.Verify(f, user, password) != passwords.Right {
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
	if v.Verify(f, []byte("alice"), []byte("secret")) != passwords.Right {
		t.Fatal("wrong")
	}
	const flood = 300
	var results [3]atomic.Int64
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range flood {
		all.Go(func() {
			<-start
			results[v.Verify(f, []byte("alice"), fmt.Appendf(nil, "guess %d", i))].Add(1)
			if v.Verify(f, []byte("alice"), []byte("secret")) != passwords.Right {
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
