package broker

import (
	"net/url"
	"regexp"
	"strings"
)

// unreadable stands for the part of a URL that could not be read, and that may therefore hold a secret anywhere.
const unreadable = "(unreadable)"

// RedactURL returns the scheme, host and port of a NATS URL, or of each in a list with commas, and nothing else: no user, no
// password, no token, no path and no query. What it can't read it doesn't show.
func RedactURL(list string) string {
	var shown []string
	start := 0
	for piece := range strings.SplitSeq(list, ",") {
		piece = strings.TrimSpace(piece)
		if strings.Contains(piece, "://") {
			start = len(shown)
		} else if strings.Contains(piece, "@") {
			// Commas inside a password split it: all before this, back to the last scheme, may be part of it.
			for i := start; i < len(shown); i++ {
				shown[i] = unreadable
			}
		}
		shown = append(shown, redactOne(piece))
	}
	return strings.Join(shown, ",")
}

// hostRe matches a host with or without a port. What looks otherwise may be the half of a password with a '/', '?' or '#' in it.
var hostRe = regexp.MustCompile(`^([0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$`)

func redactOne(raw string) string {
	scheme := ""
	if before, _, found := strings.Cut(raw, "://"); found {
		scheme = before + "://"
	} else {
		raw = "nats://" + raw
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil, !hostRe.MatchString(u.Host):
		return unreadable
	case u.User != nil:
		return scheme + "***@" + u.Host
	case strings.Contains(raw, "@"):
		return unreadable
	default:
		return scheme + u.Host
	}
}
