package deadletter

import (
	"cmp"
	"context"
	"slices"

	"golang.org/x/sync/errgroup"
)

// maxWidth is how many letters are asked for at once, at most.
const maxWidth = 16

// window reads the letters of a subject in their order, several at once, so that the way to the broker and back is not waited for at each.
type window struct {
	letters *Letters
	subject string
	// next is the first sequence that was not read. width is how many sequences are asked for: as many as there were letters the last time.
	next  uint64
	width int
}

// read returns the next letters, none at the end. For each sequence of the window it asks for the first letter from there on, so that no letter
// in the window is missed; one beyond it may be found too, by several of the requests.
func (w *window) read(ctx context.Context) ([]*Letter, error) {
	found := make([]*Letter, w.width)
	asked := w.width
	asking, within := errgroup.WithContext(ctx)
	for i := range found {
		asking.Go(func() error {
			var err error
			found[i], err = w.letters.next(within, w.next+uint64(i), w.subject) //nolint:gosec // It is no negative number.
			return err
		})
	}
	if err := asking.Wait(); err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(letter *Letter) bool { return letter == nil })
	slices.SortFunc(found, func(a, b *Letter) int { return cmp.Compare(a.Sequence, b.Sequence) })
	found = slices.CompactFunc(found, func(a, b *Letter) bool { return a.Sequence == b.Sequence })
	if len(found) == 0 {
		return nil, nil
	}
	w.next = found[len(found)-1].Sequence + 1
	if w.width = len(found); w.width == asked {
		w.width = min(2*w.width, maxWidth)
	}
	return found, nil
}
