// Package mutant names the faults that a build can be given on purpose, so that a test can show that the fault tests find them. It must
// never change anything in a build without one of its tags, and it decides nothing.
//
// Every mutation is a constant: the compiler removes its branch from a build that does not have it. A build has one mutation at most; two
// tags at once do not compile.
package mutant

// The mutations. Each is false unless the build has its tag.
const (
	// AckFirst, by the tag mutant_ack_first, acks a message before anything was done for it.
	AckFirst = active == ackFirst
	// NoGuard, by the tag mutant_no_guard, stores results without looking whether there is one.
	NoGuard = active == noGuard
	// LogBody, by the tag mutant_log_body, writes what a publisher wrote to the log.
	LogBody = active == logBody
	// PublishTwice, by the tag mutant_publish_twice, stores each result once more, past the guard: behind it a second one is refused.
	PublishTwice = active == publishTwice
	// NoAck, by the tag mutant_no_ack, gives a message back although its retry is scheduled.
	NoAck = active == noAck
)

// Suffix is what the version of a build with a mutation ends with. It is empty without one.
const Suffix = active

// The suffixes of the mutations: the plus sign sets off metadata in a semantic version, which may hold no underscores.
const (
	none         = ""
	ackFirst     = "+mutant-ack-first"
	noGuard      = "+mutant-no-guard"
	logBody      = "+mutant-log-body"
	publishTwice = "+mutant-publish-twice"
	noAck        = "+mutant-no-ack"
)
