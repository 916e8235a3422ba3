//go:build mutant_no_guard

package mutant

const active = noGuard
