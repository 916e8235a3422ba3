package sandbox

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ParseFaults reads a list of faults in the grammar of FaultHelp. Empty text is no faults. An error names the fault it is about
// and what would have been right.
func ParseFaults(text string) ([]Fault, error) {
	var faults []Fault
	for rest := text; rest != ""; {
		var one string
		one, rest = nextFault(rest)
		if one == "" {
			continue
		}
		f, err := parseFault(one)
		if err != nil {
			return nil, fmt.Errorf("fault %q: %w", one, err)
		}
		faults = append(faults, f)
	}
	return faults, nil
}

// FormatFaults writes faults so that ParseFaults reads the same again.
func FormatFaults(faults []Fault) string {
	parts := make([]string, len(faults))
	for i, f := range faults {
		parts[i] = f.String()
	}
	return strings.Join(parts, ",")
}

// String writes the fault in the grammar of FaultHelp.
func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(string(f.Provider) + ":" + string(f.Kind))
	if f.Param != "" {
		b.WriteString("=" + quoteIfNeeded(f.Param))
	}
	if f.Rate > 0 {
		b.WriteString("@" + strconv.FormatFloat(f.Rate, 'g', -1, 64))
	}
	if f.Count > 0 {
		b.WriteString("#" + strconv.Itoa(f.Count))
	}
	if f.Every > 0 {
		b.WriteString("%" + strconv.Itoa(f.Every))
	}
	for _, c := range f.Match {
		b.WriteString("[" + c.Field + "=" + c.Value + "]")
	}
	return b.String()
}

const suffixMarks = "@#%["

func quoteIfNeeded(param string) string {
	if strings.ContainsAny(param, suffixMarks+"]\",\n\r\t ") || !strconv.CanBackquote(param) {
		return strconv.Quote(param)
	}
	return param
}

// nextFault cuts the text at the first comma or line end outside quotes and brackets.
func nextFault(text string) (one, rest string) {
	quoted, bracketed := false, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"' && !bracketed:
			quoted = !quoted
		case quoted:
		case c == '[':
			bracketed = true
		case c == ']':
			bracketed = false
		case (c == ',' && !bracketed) || c == '\n':
			return strings.TrimSpace(text[:i]), text[i+1:]
		}
	}
	return strings.TrimSpace(text), ""
}

func parseFault(text string) (Fault, error) {
	provider, rest, found := strings.Cut(text, ":")
	if !found {
		return Fault{}, errors.New("write it as PROVIDER:KIND, such as easypay:status=503@0.1")
	}
	f := Fault{Provider: Provider(strings.TrimSpace(provider))}
	kind, rest := cutAt(rest, "="+suffixMarks)
	f.Kind = Kind(strings.TrimSpace(kind))
	if _, err := f.rule(); err != nil {
		return Fault{}, err
	}
	rest, err := parseParam(&f, rest)
	if err != nil {
		return Fault{}, err
	}
	for rest != "" {
		if rest, err = parseSuffix(&f, rest); err != nil {
			return Fault{}, err
		}
	}
	if _, _, err := f.validate(); err != nil {
		return Fault{}, err
	}
	return f, nil
}

// parseParam reads "=PARAM" into f when it is there, and returns what follows it.
func parseParam(f *Fault, text string) (string, error) {
	if !strings.HasPrefix(text, "=") {
		return text, nil
	}
	text = strings.TrimLeft(text[1:], " \t")
	if strings.HasPrefix(text, `"`) {
		quoted, err := strconv.QuotedPrefix(text)
		if err != nil {
			return "", errors.New("the quoted parameter has no end")
		}
		f.Param, err = strconv.Unquote(quoted)
		if err != nil {
			return "", errors.New("the quoted parameter is malformed")
		}
		text = text[len(quoted):]
	} else {
		f.Param, text = cutAt(text, suffixMarks)
		f.Param = strings.TrimSpace(f.Param)
	}
	if f.Param == "" {
		return "", errors.New("the parameter after = is empty")
	}
	return text, nil
}

// parseSuffix reads one suffix into f and returns what follows it.
func parseSuffix(f *Fault, text string) (string, error) {
	text = strings.TrimLeft(text, " \t")
	mark, body := text[0], text[1:]
	if mark == '[' {
		return parseCondition(f, body)
	}
	value, rest := cutAt(body, suffixMarks)
	value = strings.TrimSpace(value)
	var err error
	switch mark {
	case '@':
		if f.Rate, err = strconv.ParseFloat(value, 64); err != nil || !(f.Rate > 0 && f.Rate <= 1) {
			return "", fmt.Errorf("@%s: the rate must be a number above 0 and at most 1", value)
		}
	case '#':
		if f.Count, err = strconv.Atoi(value); err != nil || f.Count < 1 {
			return "", fmt.Errorf("#%s: the count must be a whole number from 1", value)
		}
	case '%':
		if f.Every, err = strconv.Atoi(value); err != nil || f.Every < 1 {
			return "", fmt.Errorf("%%%s: it must be a whole number from 1", value)
		}
	default:
		return "", fmt.Errorf("can't read %q: after the parameter come @RATE, #COUNT, %%EVERY and [FIELD=VALUE]", text)
	}
	return rest, nil
}

func parseCondition(f *Fault, text string) (string, error) {
	inside, rest, closed := strings.Cut(text, "]")
	field, value, equals := strings.Cut(inside, "=")
	if !closed || !equals || field == "" || value == "" {
		return "", errors.New("a condition is written [FIELD=VALUE]")
	}
	f.Match = append(f.Match, Condition{Field: strings.TrimSpace(field), Value: strings.TrimSpace(value)})
	return rest, nil
}

// cutAt splits the text before the first of the marks.
func cutAt(text, marks string) (before, from string) {
	if i := strings.IndexAny(text, marks); i >= 0 {
		return text[:i], text[i:]
	}
	return text, ""
}
