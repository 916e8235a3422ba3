package archtest

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"regexp"
	"strings"
)

// scanner finds card numbers in text, also in the encodings in which they slip through a review.
type scanner struct {
	public              map[string]string
	hash, escape, coded *regexp.Regexp
}

func newScanner() *scanner {
	return &scanner{
		public: publicNumbers(),
		// A checksum or a commit: digits between its letters are no number.
		hash:   regexp.MustCompile(`[0-9a-fA-F]{32,}`),
		escape: regexp.MustCompile(`%3[0-9]|\\u003[0-9]|\\x3[0-9]|&#(?:4[89]|5[0-7]);`),
		// Three digits in base64 are four letters of few: twelve digits hold three such groups in a row, wherever they begin.
		coded: regexp.MustCompile(`(?:[MNO][DTjz][AEIMQUYcgk][w-z0-5]){3,}`),
	}
}

// finding is a card number and where it begins.
type finding struct {
	at     int
	number string
	scheme string
	how    string
}

// span is a run of digits, from the first to behind the last.
type span struct{ from, to int }

// digits returns every run of digits.
func digits(text []byte) []span {
	var runs []span
	for i := 0; i < len(text); i++ {
		from := i
		for i < len(text) && text[i] >= '0' && text[i] <= '9' {
			i++
		}
		if i > from {
			runs = append(runs, span{from, i})
		}
	}
	return runs
}

// embossed returns the digits of a number that is written in groups, four by four or American Express's 4-6-5, with blanks or dashes between.
func embossed(text []byte, runs []span) string {
	for _, groups := range [][]int{{4, 4, 4, 4, 3}, {4, 4, 4, 4, 2}, {4, 4, 4, 4, 1}, {4, 4, 4, 4}, {4, 6, 5}} {
		if number := grouped(text, runs, groups); number != "" {
			return number
		}
	}
	return ""
}

func grouped(text []byte, runs []span, groups []int) string {
	if len(runs) < len(groups) {
		return ""
	}
	var number strings.Builder
	for i, length := range groups {
		run := runs[i]
		apart := i > 0 && (run.from != runs[i-1].to+1 || !strings.Contains(" -", string(text[run.from-1])))
		if run.to-run.from != length || apart {
			return ""
		}
		number.Write(text[run.from:run.to])
	}
	return number.String()
}

// suspect returns the scheme of a number that could be somebody's card: not a public one, and not one of which nine digits in a row are zero.
func (s *scanner) suspect(number string) string {
	if len(number) < 12 || len(number) > 19 || s.public[number] != "" || strings.Contains(number, "000000000") || !luhn(number) {
		return ""
	}
	return schemeOf(number)
}

// plain finds card numbers that stand in text as they are, except those between the letters of a checksum.
func (s *scanner) plain(text []byte, how string) []finding {
	var found []finding
	runs := digits(text)
	for i, run := range runs {
		number := string(text[run.from:run.to])
		if run.to-run.from == 4 {
			number = embossed(text, runs[i:])
		}
		if name := s.suspect(number); name != "" && !s.inHash(text, run) {
			found = append(found, finding{at: run.from, number: number, scheme: name, how: how})
		}
	}
	return found
}

// inHash tells whether digits are part of a longer hexadecimal word that also has letters.
func (s *scanner) inHash(text []byte, run span) bool {
	from, to := max(0, run.from-128), min(len(text), run.to+128)
	for _, word := range s.hash.FindAllIndex(text[from:to], -1) {
		if from+word[0] <= run.from && from+word[1] >= run.to {
			return bytes.ContainsAny(text[from+word[0]:from+word[1]], "abcdefABCDEF")
		}
	}
	return false
}

// scan finds card numbers in text: plain, escaped digit by digit, in hexadecimal, in base64.
func (s *scanner) scan(text []byte) []finding {
	found := s.plain(text, "")
	found = append(found, s.escaped(text)...)
	found = append(found, s.inHexadecimal(text)...)
	return append(found, s.inBase64(text)...)
}

// escaped finds numbers of which some digits are escaped as in URLs, JSON, Go or HTML.
func (s *scanner) escaped(text []byte) []finding {
	var found []finding
	begin := 0
	for line := range bytes.Lines(text) {
		if bytes.ContainsAny(line, `%\&`) && s.escape.Match(line) {
			for _, f := range s.plain(s.escape.ReplaceAllFunc(line, unescaped), ", escaped") {
				if !bytes.Contains(line, []byte(f.number)) {
					found = append(found, at(begin, []finding{f})...)
				}
			}
		}
		begin += len(line)
	}
	return found
}

// inHexadecimal finds numbers whose every digit is written as the code of its letter.
func (s *scanner) inHexadecimal(text []byte) []finding {
	var found []finding
	for _, run := range digits(text) {
		if run.to-run.from < 24 {
			continue
		}
		for skip := range 2 {
			code := text[run.from+skip : run.to]
			decoded := make([]byte, len(code)/2)
			if _, err := hex.Decode(decoded, code[:len(code)/2*2]); err == nil {
				found = append(found, at(run.from, s.plain(decoded, ", in hexadecimal"))...)
			}
		}
	}
	return found
}

// inBase64 decodes what looks like digits, with the group of four letters before and behind, in which a number may begin and end.
func (s *scanner) inBase64(text []byte) []finding {
	var found []finding
	for _, core := range s.coded.FindAllIndex(text, -1) {
		from, to := core[0], core[1]
		if from >= 4 && letters64(text[from-4:from]) == 4 {
			from -= 4
		}
		to += letters64(text[to:min(len(text), to+4)])
		word := alphabet64(text[from:to])
		if len(word)%4 == 1 {
			word = word[:len(word)-1]
		}
		if decoded, err := base64.RawStdEncoding.DecodeString(word); err == nil {
			found = append(found, at(core[0], s.plain(decoded, ", in base64"))...)
		}
	}
	return found
}

// letters64 returns how many letters of base64, of either alphabet, text begins with.
func letters64(text []byte) int {
	return len(text) - len(bytes.TrimLeft(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_"))
}

// alphabet64 returns a word of base64 in the standard alphabet.
func alphabet64(word []byte) string {
	return strings.NewReplacer("-", "+", "_", "/").Replace(string(word))
}

// at moves findings to where the text that they were found in stands.
func at(begin int, found []finding) []finding {
	for i := range found {
		found[i].at = begin
	}
	return found
}

// unescaped returns the digit that an escape of any kind stands for: its last letter or, in HTML, its number.
func unescaped(escape []byte) []byte {
	if escape[0] == '&' {
		return []byte{(escape[2]-'0')*10 + escape[3] - '0'}
	}
	return escape[len(escape)-1:]
}
