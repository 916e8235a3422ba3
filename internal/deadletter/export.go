package deadletter

import (
	"context"
	"fmt"
	"io"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// exported is one line of an export.
type exported struct {
	Sequence uint64         `json:"sequence"`
	Stored   string         `json:"stored"`
	Event    jsontext.Value `json:"event,omitzero"`
	// Unreadable stands for an event that is not JSON: its bytes, in base64.
	Unreadable []byte `json:"unreadable,omitzero"`
}

// Export writes the letters that are picked as lines of JSON, each with its event as it is stored, and returns how many they were. Payloads
// stay sealed.
func (l *Letters) Export(ctx context.Context, filter Filter, out io.Writer) (int, error) {
	count := 0
	err := l.Each(ctx, filter, func(letter Letter) error {
		line := exported{Sequence: letter.Sequence, Stored: letter.Stored.Format("2006-01-02T15:04:05.000Z07:00"), Event: letter.event}
		if !letter.event.IsValid() {
			line.Event, line.Unreadable = nil, letter.event
		}
		text, err := json.Marshal(line)
		if err != nil {
			return fmt.Errorf("encode dead letter %d: %w", letter.Sequence, err)
		}
		if _, err := out.Write(append(text, '\n')); err != nil {
			return fmt.Errorf("write export: %w", err)
		}
		count++
		return nil
	})
	return count, err
}
