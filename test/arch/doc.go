// Package arch holds the rules of ARCHITECTURE.md as tests, each with the reason for it: who may import whom, what the pure
// packages must not do, how long files and functions get, what has to be documented. It reads source text and must not
// import anything of Podlane but the list of policies.
//
// These rules are statements of policy. A build that breaks one is fixed in the code. Changing a rule is changing the
// architecture: change ARCHITECTURE.md in the same commit. Single exceptions are listed by name, with a reason, in
// exceptions_test.go, and must be removed when they are no longer needed.
package arch
