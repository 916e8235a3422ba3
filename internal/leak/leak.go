// Package leak looks for what must be nowhere: the beginnings of card numbers, tokens and mobiles, in the encodings in which they slip
// through. It is for tests only, and it must never repeat what it finds.
package leak

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strings"
)

// shortest is the least length of a mark in bytes. A shorter one would be found by chance in what is sealed.
const shortest = 8

// Finder looks for marks. A mark is how all secrets of one kind begin in a test, so that thousands of them cost one search. It may be used by
// many goroutines.
type Finder struct {
	forms []form
}

// form is a mark in one encoding.
type form struct {
	mark  int
	name  string
	bytes []byte
}

// Finding is a place where a mark stands. It tells which one by its number, counted from 0, and never what follows it.
type Finding struct {
	// Where is a file's name, or empty.
	Where string
	// Mark is the number of the mark in the list given to New.
	Mark int
	// Form is the encoding.
	Form string
	// Offset is the distance in bytes from the beginning, of what is left when escapes are resolved if the form says so.
	Offset int
}

// String returns the finding in words.
func (f Finding) String() string {
	return fmt.Sprintf("%s: mark %d, %s, at %d", f.Where, f.Mark, f.Form, f.Offset)
}

// New returns a finder for marks, each of 8 bytes or more.
func New(marks ...string) (*Finder, error) {
	f := &Finder{}
	for i, mark := range marks {
		if len(mark) < shortest {
			return nil, fmt.Errorf("mark %d has %d bytes: at least %d", i, len(mark), shortest)
		}
		add := func(name, text string) { f.forms = append(f.forms, form{mark: i, name: name, bytes: []byte(text)}) }
		add("plain", mark)
		add("hexadecimal", hex.EncodeToString([]byte(mark)))
		add("hexadecimal in capitals", strings.ToUpper(hex.EncodeToString([]byte(mark))))
		add("UTF-16", strings.Join(strings.Split(mark, ""), "\x00"))
		add("in groups", grouped(mark, " "))
		add("in groups with dashes", grouped(mark, "-"))
		for before := range 3 {
			add(fmt.Sprintf("base64, shifted by %d", before), core64(base64.RawStdEncoding, mark, before))
			add(fmt.Sprintf("base64 for URLs, shifted by %d", before), core64(base64.RawURLEncoding, mark, before))
		}
	}
	return f, nil
}

// grouped returns text with a separator behind each fourth letter.
func grouped(text, separator string) string {
	var b strings.Builder
	for i, r := range text {
		if i > 0 && i%4 == 0 {
			b.WriteString(separator)
		}
		b.WriteRune(r)
	}
	return b.String()
}

// core64 returns those letters of a mark in base64 that do not depend on what stands around it, if so many bytes stand before its group.
func core64(encoding *base64.Encoding, mark string, before int) string {
	encoded := encoding.EncodeToString([]byte(strings.Repeat("\x00", before) + mark))
	from, to := (before*8+5)/6, (before+len(mark))*8/6
	return encoded[from:to]
}

// Find returns where marks stand in text: the first place of each in each form, and those that only show when escapes are resolved.
func (f *Finder) Find(text []byte) []Finding {
	var found []Finding
	plain := unescape(text)
	for _, form := range f.forms {
		if at := bytes.Index(text, form.bytes); at >= 0 {
			found = append(found, Finding{Mark: form.mark, Form: form.name, Offset: at})
		} else if at := bytes.Index(plain, form.bytes); at >= 0 {
			found = append(found, Finding{Mark: form.mark, Form: form.name + ", escaped", Offset: at})
		}
	}
	return found
}

// unescape resolves escapes as in URLs (%36), JSON (\u0036) and Go (\x36), also those that were escaped again. It returns nil if there are none.
func unescape(text []byte) []byte {
	if !bytes.ContainsAny(text, `%\`) {
		return nil
	}
	plain, resolved := make([]byte, 0, len(text)), false
	for i := 0; i < len(text); i++ {
		if code, length := escape(text[i:]); length > 0 {
			plain, resolved = append(plain, code), true
			i += length - 1
			continue
		}
		plain = append(plain, text[i])
	}
	if !resolved {
		return nil
	}
	return plain
}

// escape returns the byte that the escape at the beginning of text stands for, and the escape's length; 0 if there is none.
func escape(text []byte) (code byte, length int) {
	digits := 0
	switch text[0] {
	case '%':
		digits = 1
	case '\\':
		for digits < len(text) && text[digits] == '\\' {
			digits++
		}
		switch rest := text[digits:]; {
		case bytes.HasPrefix(rest, []byte("u00")):
			digits += len("u00")
		case bytes.HasPrefix(rest, []byte("x")):
			digits++
		default:
			return 0, 0
		}
	default:
		return 0, 0
	}
	if len(text) < digits+2 {
		return 0, 0
	}
	var decoded [1]byte
	if _, err := hex.Decode(decoded[:], text[digits:digits+2]); err != nil {
		return 0, 0
	}
	return decoded[0], digits + 2
}

// FindIn looks through every file below root but those that skip names, and returns how many bytes it has read.
func (f *Finder) FindIn(root fs.FS, skip func(name string) bool) (found []Finding, read int, err error) {
	err = fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || skip(name) {
			return err
		}
		text, err := fs.ReadFile(root, name)
		read += len(text)
		for _, finding := range f.Find(text) {
			finding.Where = name
			found = append(found, finding)
		}
		return err
	})
	return found, read, err
}
