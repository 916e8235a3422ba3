package sandbox

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// setting is the parameter of a fault, read. Each kind uses the members it needs.
type setting struct {
	low, high time.Duration
	n         int
	rate      float64
	text      string
	retry     retryAfter
}

// readNone is for kinds without a parameter.
func readNone(param string) (setting, error) {
	if param != "" {
		return setting{}, errors.New("it takes no parameter")
	}
	return setting{}, nil
}

func readLatency(param string) (setting, error) {
	low, high, ranged := strings.Cut(param, "-")
	if !ranged {
		high = low
	}
	from, err := readDuration(low)
	if err != nil {
		return setting{}, err
	}
	to, err := readDuration(high)
	if err != nil {
		return setting{}, err
	}
	if to < from {
		return setting{}, errors.New("the range ends before it starts")
	}
	return setting{low: from, high: to}, nil
}

// readPause returns a reader for one duration that can be left out.
func readPause(otherwise string) func(string) (setting, error) {
	return func(param string) (setting, error) {
		if param == "" {
			param = otherwise
		}
		d, err := readDuration(param)
		return setting{low: d, high: d}, err
	}
}

func readDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > 24*time.Hour {
		return 0, fmt.Errorf("%q is no duration from 0s to 24h", text)
	}
	return d, nil
}

// readNumber returns a reader for a whole number from 1 to most that can be left out.
func readNumber(otherwise, most int) func(string) (setting, error) {
	return func(param string) (setting, error) {
		if param == "" {
			return setting{n: otherwise}, nil
		}
		n, err := strconv.Atoi(param)
		if err != nil || n < 1 || n > most {
			return setting{}, fmt.Errorf("%q is no whole number from 1 to %d", param, most)
		}
		return setting{n: n}, nil
	}
}

// readWord returns a reader for one optional word.
func readWord(word string) func(string) (setting, error) {
	return func(param string) (setting, error) {
		if param != "" && param != word {
			return setting{}, fmt.Errorf("%q is not known", param)
		}
		return setting{text: param}, nil
	}
}

// readChoice finds a parameter in a list of names; the setting's n is its place.
func readChoice(param string, names []string) (setting, error) {
	for i, name := range names {
		if param == name {
			return setting{n: i}, nil
		}
	}
	return setting{}, fmt.Errorf("%q is not known", param)
}

func readDialect(param string) (setting, error) { return readChoice(param, dialectNames[:]) }

func readNumbers(param string) (setting, error) { return readChoice(param, numbersNames[:]) }

func readList(param string) (setting, error) { return readChoice(param, listNames[:]) }

func readCP949(param string) (setting, error) {
	if param == "" {
		param = charsetNames[charsetCP949]
	}
	set, err := readChoice(param, charsetNames[charsetCP949:])
	set.n += int(charsetCP949)
	return set, err
}

// readCode takes what both providers' code fields can hold: up to four letters and digits.
func readCode(param string) (setting, error) {
	if len(param) < 1 || len(param) > 4 || !isAlnum(param) {
		return setting{}, fmt.Errorf("%q is no code of 1 to 4 letters and digits", param)
	}
	return setting{text: param}, nil
}

func readURL(param string) (setting, error) {
	if param == "" {
		param = "/moved"
	}
	if _, err := url.Parse(param); err != nil || strings.ContainsAny(param, "\r\n") {
		return setting{}, errors.New("the parameter is no address")
	}
	return setting{text: param}, nil
}

func readLimit(param string) (setting, error) {
	rateText, burstText, _ := strings.Cut(param, "/")
	rate, err := strconv.ParseFloat(rateText, 64)
	if err != nil || !(rate >= 0.001 && rate <= 1e6) {
		return setting{}, fmt.Errorf("%q is no rate from 0.001 to 1000000", rateText)
	}
	burst, err := strconv.Atoi(burstText)
	if err != nil || burst < 1 || burst > 1_000_000 {
		return setting{}, fmt.Errorf("%q is no burst from 1 to 1000000", burstText)
	}
	return setting{rate: rate, n: burst}, nil
}

func readStatus(param string) (setting, error) {
	codeText, retryText, _ := strings.Cut(param, "/")
	code, err := strconv.Atoi(codeText)
	if err != nil || code < 400 || code > 599 {
		return setting{}, fmt.Errorf("%q is no HTTP status from 400 to 599", codeText)
	}
	retry, err := readRetry(retryText)
	return setting{n: code, retry: retry}, err
}

func read429(param string) (setting, error) {
	if param == "" {
		param = "1s"
	}
	retry, err := readRetry(param)
	return setting{n: http.StatusTooManyRequests, retry: retry}, err
}

// retryAfter is a Retry-After header to be sent: fixed text, or a date that lies so far ahead when it is sent.
type retryAfter struct {
	text  string
	ahead time.Duration
	dated bool
}

// header returns the header's value; "" means that the header is left out.
func (r retryAfter) header(now time.Time) string {
	if r.dated {
		return now.Add(r.ahead).UTC().Format(http.TimeFormat)
	}
	return r.text
}

// readRetry reads the RETRY of the grammar.
func readRetry(text string) (retryAfter, error) {
	if date, dated := strings.CutPrefix(text, "date:"); dated {
		return readRetryDate(date)
	}
	switch text {
	case "", "none":
		return retryAfter{}, nil
	case "garbage":
		return retryAfter{text: "soon, maybe"}, nil
	}
	if _, err := strconv.Atoi(text); err == nil {
		return retryAfter{text: text}, nil
	}
	d, err := readDuration(text)
	if err != nil {
		return retryAfter{}, fmt.Errorf("Retry-After: %w", err)
	}
	return retryAfter{text: wholeSeconds(d)}, nil
}

func readRetryDate(text string) (retryAfter, error) {
	if year, err := strconv.Atoi(text); err == nil && year >= 1 && year <= 9999 {
		return retryAfter{text: time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC).Format(http.TimeFormat)}, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return retryAfter{}, fmt.Errorf("Retry-After: %q is neither a year nor a duration", text)
	}
	return retryAfter{ahead: d, dated: true}, nil
}

// wholeSeconds writes a duration as whole seconds, rounded up, since an earlier call would be refused again.
func wholeSeconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// isAlnum reports whether the text holds ASCII letters and digits only.
func isAlnum(text string) bool {
	for i := range len(text) {
		c := text[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// isDigits reports whether the text holds ASCII digits only.
func isDigits(text string) bool {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return false
		}
	}
	return true
}
