package config

import "strings"

// Problem is one thing that is wrong with the settings, and what to do about it. It never holds a value.
type Problem struct {
	// Key is the key's path, for example "lanes.interactive.slots", or the name of a variable that stands for no key.
	Key string
	// Where is the file and line or the variable that set it. It is empty where that is not known.
	Where string
	// Text says what is wrong and what to do.
	Text string
}

// String returns the problem as one line.
func (p Problem) String() string {
	line := p.Text
	if p.Key != "" {
		line = p.Key + ": " + line
	}
	if p.Where != "" {
		line = p.Where + ": " + line
	}
	return line
}

// Problems is everything that is wrong with the settings. It is the error of Load and Validate.
type Problems []Problem

// Error returns the problems, one per line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "\n")
}

// orNil returns the problems as an error, or nil if there are none.
func (p Problems) orNil() error {
	if len(p) == 0 {
		return nil
	}
	return p
}
