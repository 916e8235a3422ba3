package deploy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"discountquery.example/worker/internal/check"
)

// unprobed are the worker's lines that `worker check` can't try without changing something, or that it can't tell from others.
func unprobed(line string) bool {
	for _, prefix := range []string{
		"$JS.ACK.", "$JS.FC.", "$JS.API.CONSUMER.DELETE.", "_R_.", "_INBOX_ops", "discount.ask.", "discount.lookup.", "discount.keys", "$SRV.",
	} {
		if strings.HasPrefix(line, prefix) {
			return true
		}
	}
	return false
}

// permissionsOf runs `worker check` as a user and returns what it says of the user's rights, nothing if all is well.
func permissionsOf(ctx context.Context, s *site, u user) string {
	var says []string
	check.Run(ctx, s.config(u), func(f check.Finding) {
		if (f.What == "permissions" || f.What == "streams") && f.State != check.OK {
			says = append(says, f.Detail)
		}
	})
	return strings.Join(says, "; ")
}

// TestCheckKnowsTheSameRights holds the worker's list against `worker check`: it misses nothing with the list, and misses each line that is
// taken from it, but for the few that it does not try.
func TestCheckKnowsTheSameRights(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	roots, worker := s.roots(t, s.files()), roleOf("worker")
	users := map[string]user{}
	for _, line := range s.lines(worker) {
		if line == "_INBOX_worker.>" {
			continue // Without it no answer comes at all: it says that of every right, and takes its time.
		}
		users[line] = s.add(t, worker, line, nil)
	}
	s.quick()
	s.start(t)
	setUp(t, s.connect(t, roots.root), asIs)
	require.Empty(t, permissionsOf(t.Context(), s, s.base(worker)))
	require.Empty(t, s.log.deniedTo(s.base(worker)), "it tries more than a worker may")

	var mu sync.Mutex
	var wrong []error
	var checking errgroup.Group
	checking.SetLimit(atOnce) // With all at once some get no connection in time.
	for line, u := range users {
		checking.Go(func() error {
			says := permissionsOf(t.Context(), s, u)
			if missed := says != ""; missed == unprobed(line) {
				mu.Lock()
				defer mu.Unlock()
				wrong = append(wrong, fmt.Errorf("without %s it says %q", line, says))
			}
			return nil
		})
	}
	require.NoError(t, checking.Wait())
	require.NoError(t, errors.Join(wrong...))
}
