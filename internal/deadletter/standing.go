package deadletter

import (
	"context"
	"slices"
	"time"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// Standing says how a letter's query stands now. All but Ready leave the letter out of a replay.
type Standing string

// The standings of a letter.
const (
	// Ready is a query without an answer, whose last word is this letter's own failure.
	Ready Standing = "ready"
	// Answered is a query that has a completed result.
	Answered Standing = "answered"
	// Superseded is a query that was replayed since and failed again, or a letter that is not the query's last.
	Superseded Standing = "superseded"
	// Unsettled is a query whose failed result is not written yet: a worker will come back to it.
	Unsettled Standing = "unsettled"
	// Owned is a letter that another replay has published or is about to.
	Owned Standing = "owned"
	// Doubtful is a letter that a replay has claimed so long ago that an answer may have come and gone since.
	Doubtful Standing = "doubtful"
	// Unserved is a letter that can't be asked again: it can't be read, nothing of its query was kept, or no provider that is served takes it.
	Unserved Standing = "unserved"
)

// Standings returns every standing.
func Standings() []Standing {
	return []Standing{Ready, Answered, Superseded, Unsettled, Owned, Doubtful, Unserved, Unopened}
}

// standing looks a letter's query up and returns how it stands, and the sequence of the failed result that a replay would supersede,
// 0 if that is gone.
func (l *Letters) standing(ctx context.Context, letter *Letter) (Standing, uint64, error) {
	if letter.Unreadable || letter.Code == fault.ForbiddenCardData || letter.Emptied || !slices.Contains(l.Providers, letter.Query.Provider) {
		return Unserved, 0, nil
	}
	message, err := l.last(ctx, l.results, l.Subjects.ResultGuard(letter.Query.Key))
	if err != nil {
		return "", 0, err
	}
	if message == nil {
		return l.withoutResult(ctx, letter)
	}
	completed, revision := readResult(message.Data)
	switch {
	case completed:
		return Answered, message.Sequence, nil
	case revision > letter.Revision:
		return Superseded, message.Sequence, nil
	case revision < letter.Revision:
		return Unsettled, message.Sequence, nil
	default:
		return Ready, message.Sequence, nil
	}
}

// withoutResult tells why there is no result: because there never is one for the nameless, because it has grown too old or was lost with
// its stream, or because it was not written yet.
func (l *Letters) withoutResult(ctx context.Context, letter *Letter) (Standing, uint64, error) {
	if letter.nameless() {
		last, err := l.lastOf(ctx, letter.Query.Key)
		if err == nil && last != nil && last.Sequence > letter.Sequence {
			return Superseded, 0, nil
		}
		return Ready, 0, err
	}
	if l.resultsForget(letter.Stored) {
		return Ready, 0, nil
	}
	return Unsettled, 0, nil
}

// resultsForget tells whether results of that time are not kept any more, or were lost with their stream.
func (l *Letters) resultsForget(at time.Time) bool {
	info := l.results.CachedInfo()
	return at.Before(info.Created) || info.Config.MaxAge > 0 && time.Since(at) > info.Config.MaxAge
}

// readResult tells whether a result is completed, and after how many replays it was written.
func readResult(event []byte) (completed bool, revision int) {
	var result struct {
		Type string `json:"type"`
		Data struct {
			Replay *query.ReplayRef `json:"replay"`
		} `json:"data"`
	}
	if query.ReadStrict(event, &result) != nil {
		return true, 0 // What a newer worker wrote is left alone.
	}
	if result.Data.Replay != nil {
		revision = result.Data.Replay.Revision
	}
	return result.Type != query.TypeFailed, revision
}
