package config

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes. As text it is a whole number with a unit, such as "256KiB" or "1GiB".
type Size int64

// sizeUnits are the units of a Size, binary and decimal. Units like "K" mean both to different people, so they are refused.
var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3},
	{"B", 1},
}

// errSize says how a size is written.
var errSize = errors.New("must be a size: a whole number of bytes with a unit, such as 512B, 256KiB or 1GiB")

// UnmarshalText reads a size. A number without a unit counts bytes. The error never quotes the text.
func (s *Size) UnmarshalText(text []byte) error {
	digits, factor := string(text), int64(1)
	for _, unit := range sizeUnits {
		if number, ok := strings.CutSuffix(digits, unit.name); ok {
			digits, factor = strings.TrimRight(number, " "), unit.bytes
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || int64(n) > math.MaxInt64/factor {
		return errSize
	}
	*s = Size(int64(n) * factor)
	return nil
}

// String returns the size in the largest binary unit that holds it without a remainder.
func (s Size) String() string {
	if s == 0 {
		return "0B"
	}
	for _, unit := range sizeUnits[:4] {
		if int64(s)%unit.bytes == 0 {
			return strconv.FormatInt(int64(s)/unit.bytes, 10) + unit.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}
