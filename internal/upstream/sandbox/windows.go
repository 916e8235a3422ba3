package sandbox

import "time"

// Violations forgives a call that is early by less than clockGrain or by callGrain of the time between two calls, whichever is
// more: intervals are kept in whole nanoseconds, and over many calls that adds up.
const (
	clockGrain = time.Microsecond
	callGrain  = 1e-4
)

// MaxInWindow returns the largest number of arrivals within any span shorter than the window. The arrivals are in order.
// A window of zero or less holds nothing.
func MaxInWindow(arrivals []time.Duration, window time.Duration) int {
	if window <= 0 {
		return 0
	}
	most, first := 0, 0
	for last := range arrivals {
		for arrivals[last]-arrivals[first] >= window {
			first++
		}
		most = max(most, last-first+1)
	}
	return most
}

// Violations returns how many arrivals end a window, of any length, that holds more than rate x window + burst calls. It is 0
// exactly when the rule holds for all windows. The arrivals are in order, the rate is in calls per second; with a rate of zero
// every arrival after the first burst ones is a violation.
//
// A call fills a bucket by one, time empties it at the rate, and the bucket never forgets an overflow: its level after a call is
// the largest excess over all windows that end there, which is why one pass over the arrivals is enough.
func Violations(arrivals []time.Duration, rate float64, burst int) int {
	if rate <= 0 {
		return max(0, len(arrivals)-max(0, burst))
	}
	perCall := float64(time.Second) / rate
	limit := float64(burst)*perCall + max(float64(clockGrain), callGrain*perCall)
	count, level := 0, 0.0
	for i, at := range arrivals {
		if i > 0 {
			level = max(0, level-float64(at-arrivals[i-1]))
		}
		level += perCall
		if level > limit {
			count++
		}
	}
	return count
}
