//go:build !mutant_ack_first && !mutant_no_guard && !mutant_log_body && !mutant_publish_twice && !mutant_no_ack

package mutant

const active = none
