package differential

import (
	"flag"
	"math/rand/v2"
	"strings"
	"testing"

	"podlane.dev/podlane/test/vectors"
	"podlane.dev/podlane/test/vectors/mutate"
)

var (
	seed      = flag.Uint64("seed", 1, "of the random mutations")
	mutations = flag.Int("mutations", defaultMutations, "number of random mutations")
)

// corpus returns what clients send: the examples of the contract, every mutation of Transfer-Encoding, and random mutations of both.
func corpus(t *testing.T) []string {
	t.Helper()
	all, err := vectors.All()
	if err != nil {
		t.Fatal(err)
	}
	var examples, bases []string
	for _, v := range all {
		examples = append(examples, v.Input)
		// Mutations of what is refused are refused: half of the random ones begin with something good.
		if len(v.Input) < 3000 && !v.Octet {
			bases = append(bases, v.Input)
			if len(v.Answers) > 0 && v.Answers[0].End.FromPod() {
				bases = append(bases, v.Input, v.Input)
			}
		}
	}
	inputs := examples
	for _, line := range mutate.TransferEncodings() {
		inputs = append(inputs, "POST /te HTTP/1.1\r\nHost: a\r\n"+line+"\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n")
	}
	rnd := rand.New(rand.NewPCG(*seed, 0))
	for range *mutations {
		inputs = append(inputs, mutate.Random(rnd, bases))
	}
	t.Logf("%d inputs: %d examples, %d mutations of Transfer-Encoding, %d random ones; repeat them with -seed=%d -mutations=%d",
		len(inputs), len(examples), len(inputs)-len(examples)-*mutations, *mutations, *seed, *mutations)
	return inputs
}

// latin makes bytes of the characters that an oracle's text encoding made of them.
func latin(s string) string {
	var b strings.Builder
	for _, r := range s {
		b.WriteByte(byte(r))
	}
	return b.String()
}
