package unionpay

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"sync/atomic"

	"discountquery.example/worker/internal/card"
)

// Reference numbers have 15 digits and never a leading zero, so that one which comes back as a JSON number is still the same.
const (
	firstReference = 100_000_000_000_000
	references     = 900_000_000_000_000
)

// sequence hands out reference numbers: a random start, then one after the other.
//
// Two numbers of one sequence can't be the same before 9*10^14 of them were taken. Two replicas collide only if their runs
// overlap: for runs of a and b numbers in a day that has the probability (a+b)/(9*10^14). Sixteen replicas with a million calls
// each stay below 3*10^-7 a day, where as many numbers drawn at random would collide about once in seven days.
type sequence struct {
	last atomic.Uint64
}

// start sets the sequence to a random place.
func (s *sequence) start(random io.Reader) error {
	var b [8]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return fmt.Errorf("draw the first reference number: %w", err)
	}
	s.last.Store(binary.BigEndian.Uint64(b[:]) % references)
	return nil
}

// take returns the next reference number. It leaves out the tenth of them that a search for card numbers would take for one,
// because references stand in results and logs.
func (s *sequence) take() string {
	for {
		reference := strconv.FormatUint(firstReference+s.last.Add(1)%references, 10)
		if _, err := card.ParseNumber(reference); err != nil {
			return reference
		}
	}
}

// messageID returns a random UUID (RFC 9562, version 4) as 32 hexadecimal digits without dashes, as UPI-UUID wants it.
func messageID(random io.Reader) (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("draw a message id: %w", err)
	}
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return hex.EncodeToString(b[:]), nil
}
