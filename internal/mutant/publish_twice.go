//go:build mutant_publish_twice

package mutant

const active = publishTwice
