package filters

// Runtime is what filters use of the engine, which keeps it while tables come and go. It may be used concurrently.
type Runtime struct{}
