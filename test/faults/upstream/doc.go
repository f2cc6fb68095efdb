// Package upstream owns the faults of the side of Pods, F1 to F6, F11, F14, F16, F22, F27 and F28 of the design: each is injected for
// real, and its test prints what it measured. Pods have addresses of their own in a network namespace that the tests make;
// nf_tables rules of that namespace refuse, swallow and lose packets, and Pods that are no HTTP servers hang, lie, reset and
// send garbage. The engine runs in the tests' process, where the race detector sees it, and as the built command where
// that is the point. It has tests only; what they need of nf_tables and of /proc is theirs.
//
//	go test -v ./test/faults/upstream -run TestF5
//	FAULTS_LONG=1 go test -v -timeout 30m ./test/faults/upstream   (the numbers of the design, not the short ones)
package upstream
