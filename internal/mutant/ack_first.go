//go:build mutant_ack_first

package mutant

const active = ackFirst
