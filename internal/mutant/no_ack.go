//go:build mutant_no_ack

package mutant

const active = noAck
