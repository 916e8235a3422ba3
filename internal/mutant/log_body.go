//go:build mutant_log_body

package mutant

const active = logBody
