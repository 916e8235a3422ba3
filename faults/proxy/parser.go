package proxy

import (
	"bytes"
	"strconv"
	"strings"
)

// Limits beyond which a stream is no NATS protocol any more. A server's INFO is the longest line, a payload is 64 MiB at most.
const (
	maxLine    = 1 << 20
	maxPayload = 64 << 20
)

// Frame is one unit of the NATS client protocol, as it stood on the wire: a line, and a payload after it where the line announces one.
type Frame struct {
	// Raw is the whole frame with its line ends.
	Raw []byte
	// Op is the first word of the line in upper case. It is "" for bytes that could not be read.
	Op string
	// Subject and Reply are those of PUB, HPUB, MSG and HMSG; Reply is "" if there is none.
	Subject string
	Reply   string
	// Header and Payload are parts of Raw. Header is nil but for HPUB and HMSG.
	Header  []byte
	Payload []byte
}

// Parser cuts one direction of a connection into frames. What it can't read it hands on as it is, from there to the end.
type Parser struct {
	buffer []byte
	opaque bool
}

// Feed takes the next bytes and returns the frames that are whole now. The frames hold copies.
func (p *Parser) Feed(data []byte) []Frame {
	p.buffer = append(p.buffer, data...)
	var frames []Frame
	for len(p.buffer) > 0 {
		frame, length := p.next()
		if length == 0 {
			break
		}
		frames = append(frames, frame)
		p.buffer = p.buffer[length:]
	}
	return frames
}

// Rest returns the bytes that are no whole frame yet.
func (p *Parser) Rest() []byte { return p.buffer }

// next returns the first frame of the buffer and its length, or 0 if more bytes are needed.
func (p *Parser) next() (Frame, int) {
	if p.opaque {
		return Frame{Raw: bytes.Clone(p.buffer)}, len(p.buffer)
	}
	end := bytes.IndexByte(p.buffer, '\n') + 1
	if end == 0 {
		if len(p.buffer) > maxLine {
			return p.giveUp()
		}
		return Frame{}, 0
	}
	words := strings.Fields(string(p.buffer[:end]))
	if len(words) == 0 {
		return Frame{Raw: bytes.Clone(p.buffer[:end])}, end
	}
	op := strings.ToUpper(words[0])
	sizes := map[string]int{"PUB": 1, "MSG": 1, "HPUB": 2, "HMSG": 2}[op]
	if sizes == 0 {
		return Frame{Raw: bytes.Clone(p.buffer[:end]), Op: op}, end
	}
	return p.message(op, words[1:], sizes, end)
}

// message reads a frame with a payload. The words after the operation are the subject, for a delivery the subscription's id, a reply
// subject if there is one, and one or two sizes.
func (p *Parser) message(op string, words []string, sizes, end int) (Frame, int) {
	names := len(words) - sizes
	fixed := 1
	if strings.HasSuffix(op, "MSG") {
		fixed = 2
	}
	if names < fixed || names > fixed+1 {
		return p.giveUp()
	}
	total, ok := size(words[len(words)-1], maxPayload)
	if !ok {
		return p.giveUp()
	}
	header := 0
	if sizes == 2 {
		if header, ok = size(words[len(words)-2], total); !ok {
			return p.giveUp()
		}
	}
	length := end + total + len("\r\n")
	if len(p.buffer) < length {
		return Frame{}, 0
	}
	raw := bytes.Clone(p.buffer[:length])
	frame := Frame{Raw: raw, Op: op, Subject: words[0], Payload: raw[end+header : end+total]}
	if names > fixed {
		frame.Reply = words[names-1]
	}
	if sizes == 2 {
		frame.Header = raw[end : end+header]
	}
	return frame, length
}

// giveUp hands on all there is and all that comes.
func (p *Parser) giveUp() (Frame, int) {
	p.opaque = true
	return p.next()
}

func size(word string, most int) (int, bool) {
	n, err := strconv.ParseUint(word, 10, 31)
	return int(n), err == nil && int(n) <= most
}
