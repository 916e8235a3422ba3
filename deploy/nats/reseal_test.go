package deploy

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/deadletter"
)

// rotated is a folder with the keys that sealed the dead letters, and a newer one.
var rotated = sync.OnceValues(func() (dir string, err error) {
	dir = filepath.Join(ground.dir, "rotated")
	if err := os.CopyFS(dir, os.DirFS(ordinary().Cards.KeysDir)); err != nil {
		return "", err
	}
	_, err = card.NewKeyPair(dir, time.Now(), time.Now())
	return dir, err
})

// laysSealed stores three dead letters that are sealed to a key which is not the newest any more. A reseal and a replay have been there
// before: one was cut short after its first claim, the other has ended.
func laysSealed(t *testing.T, s *site, root *app.Broker) {
	t.Helper()
	laysDead(t, s, root)
	for key, value := range map[string]string{
		"batch.first": `{"id":"first","state":"done"}`, "letter.1": `{"batch":"reseal","run":"reseal","at":"2026-01-02T03:04:05Z"}`,
	} {
		_, err := root.JS.Publish(t.Context(), "$KV.discount_replays."+key, []byte(value))
		require.NoError(t, err)
	}
}

// reseals is `worker dead reseal --apply`.
func reseals(ctx context.Context, s *site, u user, _ *around) (err error) {
	c := s.config(u)
	if c.Cards.KeysDir, err = rotated(); err != nil {
		return err
	}
	letters, err := app.OpenDeadLetters(ctx, c, app.DeadLettersOptions{Actor: "ops", Why: "rotation", Keys: true})
	if err != nil {
		return err
	}
	defer letters.Close(ctx)
	plan, err := letters.PlanReseal(ctx)
	if err != nil {
		return err
	}
	done, err := letters.Reseal(ctx, plan, func(deadletter.Resealed) {})
	if err == nil && done.Done != 3 {
		err = fmt.Errorf("%d of 3 letters were sealed anew", done.Done)
	}
	if err != nil {
		return err
	}
	if plan, err = letters.PlanReseal(ctx); err == nil && (plan.Left != 0 || plan.Letters[plan.Target] != 3) {
		err = fmt.Errorf("of 3 letters %d are sealed to the newest key", plan.Letters[plan.Target])
	}
	return err
}

// TestOnlyOneRoleOfOperatorsWritesDeadLetters: the others could pass off a false letter as one that a worker has left.
func TestOnlyOneRoleOfOperatorsWritesDeadLetters(t *testing.T) {
	t.Parallel()
	c := newScene(t)
	const letter = "discount.dead.k.easypay.shop.rejected"
	for _, name := range []string{"ops view", "ops replay", "admin", "setup"} {
		require.NoError(t, c.as[name].Conn.Publish(letter, []byte(`{}`)))
		require.NoError(t, c.as[name].Conn.Flush())
		require.Contains(t, c.log.deniedTo(c.base(roleOf(name))), letter, name)
	}
	c.requireKept(t)
}
