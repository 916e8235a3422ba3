package deploy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/client"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/deadletter"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/tail"
)

// laysReplay has no more than the record of a replay.
func laysReplay(t *testing.T, _ *site, root *app.Broker) {
	t.Helper()
	setUp(t, root, asIs)
	_, err := root.JS.Publish(t.Context(), "$KV.discount_replays.batch.first", []byte(`{"state":"done"}`))
	require.NoError(t, err)
}

// laysWorker has a worker run in the account of the files until the test ends.
func laysWorker(t *testing.T, s *site, root *app.Broker) {
	t.Helper()
	setUp(t, root, asIs)
	stop, err := s.work(t.Context(), s.base(roleOf("worker")))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, stop()) })
}

// laysResults stores two results, too big for one piece of a backup, and makes the consumer of analytics.
func laysResults(t *testing.T, _ *site, root *app.Broker) {
	t.Helper()
	setUp(t, root, asIs)
	noise := make([]byte, 4<<10)
	_, _ = rand.Read(noise)
	for _, key := range []string{"first", "second"} {
		_, err := root.JS.Publish(t.Context(), "discount.result."+key+".easypay.shop.completed", noise)
		require.NoError(t, err)
	}
	require.NoError(t, makeAnalytics(t.Context(), root))
}

// makeAnalytics makes the consumer of analytics as the README says.
func makeAnalytics(ctx context.Context, by *app.Broker) error {
	text, err := os.ReadFile("analytics.consumer.json")
	if err != nil {
		return err
	}
	body := append(append([]byte(`{"stream_name":"DISCOUNT_RESULTS","action":"create","config":`), text...), '}')
	reply, err := by.Conn.RequestWithContext(ctx, "$JS.API.CONSUMER.CREATE.DISCOUNT_RESULTS.analytics.discount.result.>", body)
	if err == nil && strings.Contains(string(reply.Data), `"error"`) {
		err = errors.New(string(reply.Data))
	}
	return err
}

// publishes asks in every way that a client has.
func publishes(name string) func(context.Context, *site, user, *around) error {
	return func(ctx context.Context, s *site, u user, _ *around) error {
		return s.as(ctx, u, func(ctx context.Context, connected *app.Broker) error {
			c := publisher(connected, name)
			id := client.NewID()
			if _, err := c.Ask(ctx, easyPay(id, "029")); err != nil {
				return err
			}
			if _, err := c.Direct(ctx, easyPay("direct"+id, "029")); err != nil {
				return err
			}
			if _, err := c.Lookup(ctx, query.Key(name, "urn:shop", id)); err != nil {
				return err
			}
			_, err := c.FetchSealer(ctx)
			return err
		})
	}
}

// as does something on a connection of a user.
func (s *site) as(ctx context.Context, u user, do func(context.Context, *app.Broker) error) error {
	connected, err := app.OpenBroker(ctx, s.config(u), app.BrokerOptions{Name: "test " + u.name})
	if err != nil {
		return err
	}
	err = do(ctx, connected)
	if err == nil {
		err = connected.Conn.FlushWithContext(ctx) // What was denied meanwhile has been told when this returns.
	}
	return errors.Join(err, connected.Close(context.WithoutCancel(ctx)))
}

// works takes queries of all kinds through a worker: answered, tried again, dead, asked beside the queue, repeated and looked up.
func works(ctx context.Context, s *site, u user, around *around) (err error) {
	stop, err := s.work(ctx, u)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop(), leftNothing(around.root)) }()
	shop := publisher(around.shop, "shop")
	recent := easyPay("recent", "026")
	recent.MaxAge = new(time.Minute)
	for _, question := range []client.Question{easyPay("plain", "029"), recent, malformed("dead")} {
		if _, err := shop.Ask(ctx, question); err != nil {
			return fmt.Errorf("ask %s: %w", question.ID, err)
		}
	}
	if _, err := shop.Publish(ctx, easyPay("late", unavailableCard)); err != nil {
		return err
	}
	if err := again(ctx, around, "dead"); err != nil {
		return err
	}
	if _, err := shop.Direct(ctx, easyPay("direct", "029")); err != nil {
		return fmt.Errorf("ask directly: %w", err)
	}
	if _, err := shop.Lookup(ctx, query.Key("shop", "urn:shop", "plain")); err != nil {
		return fmt.Errorf("look up: %w", err)
	}
	if err := counted(ctx, around.view.Conn); err != nil {
		return fmt.Errorf("count: %w", err)
	}
	if err := manyChanges(ctx, around.root); err != nil {
		return err
	}
	return comesBack(ctx, around.root)
}

// leftNothing says whether a worker that has stopped left a consumer behind.
func leftNothing(root *app.Broker) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := root.JS.Stream(ctx, "KV_discount_pace")
	if err == nil && stream.CachedInfo().State.Consumers > 0 {
		err = errors.New("the worker has left its watcher's consumer behind")
	}
	return err
}

// comesBack waits until a retry was scheduled, came due and was scheduled again.
func comesBack(ctx context.Context, root *app.Broker) error {
	retries, err := root.JS.Stream(ctx, "DISCOUNT_RETRIES")
	if err != nil {
		return err
	}
	return until(ctx, func() (bool, error) {
		info, err := retries.Info(ctx)
		return err == nil && info.State.LastSeq >= 3, err
	})
}

// again publishes a query that has died as one that the broker does not know, and waits until it is gone.
func again(ctx context.Context, around *around, id string) error {
	event := `{"specversion":"1.0","id":"` + id + `","source":"urn:shop","type":"discount.query.requested.v1","datacontenttype":"application/json",` +
		`"data":{"cardCd":"029","cardBin":"12345678"}}`
	message := nats.NewMsg("discount.query.easypay.bulk.shop")
	message.Header.Set("Content-Type", query.ContentTypeEvent)
	message.Data = []byte(event)
	if _, err := around.shop.JS.PublishMsg(ctx, message); err != nil {
		return err
	}
	stream, err := around.root.JS.Stream(ctx, "DISCOUNT_QUERIES")
	if err != nil {
		return err
	}
	return until(ctx, func() (bool, error) {
		info, err := stream.Info(ctx)
		return err == nil && info.State.Msgs == 0, err
	})
}

// until waits until something is so.
func until(ctx context.Context, so func() (bool, error)) error {
	for {
		is, err := so()
		if err != nil || is {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// counted asks the worker how it does, in each way that the service framework knows.
func counted(ctx context.Context, view *nats.Conn) error {
	var id struct {
		ID string `json:"id"`
	}
	for _, subject := range []string{"$SRV.STATS", "$SRV.INFO.discount", "$SRV.PING.discount."} {
		if strings.HasSuffix(subject, ".") {
			subject += id.ID
		}
		reply, err := view.RequestWithContext(ctx, subject, nil)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(reply.Data, &id); err != nil {
			return err
		}
	}
	return nil
}

// manyChanges writes so much into the pace that the broker wants to know whether its watcher still follows.
func manyChanges(ctx context.Context, root *app.Broker) error {
	bucket, err := root.JS.KeyValue(ctx, "discount_pace")
	if err != nil {
		return err
	}
	for i := range 40 {
		if _, err := bucket.Put(ctx, "control.nobody.none", []byte(strconv.Itoa(i)+strings.Repeat(" ", 60<<10))); err != nil {
			return err
		}
	}
	return nil
}

// setsUp makes the whole topology, and repairs every stream, bucket and consumer after somebody has changed it.
func setsUp(ctx context.Context, s *site, u user, around *around) error {
	if err := applies(ctx, s, u); err != nil {
		return err
	}
	js := around.root.JS
	streams := js.ListStreams(ctx)
	for info := range streams.Info() {
		changed := info.Config
		changed.Duplicates = 30 * time.Second
		if _, err := js.UpdateStream(ctx, changed); err != nil {
			return err
		}
	}
	if err := streams.Err(); err != nil {
		return err
	}
	for _, name := range []string{"DISCOUNT_QUERIES", "DISCOUNT_RETRIES"} {
		consumer, err := js.Consumer(ctx, name, "easypay-bulk")
		if err != nil {
			return err
		}
		changed := consumer.CachedInfo().Config
		changed.AckWait += time.Second
		if _, err := js.UpdateConsumer(ctx, name, changed); err != nil {
			return err
		}
	}
	return applies(ctx, s, u)
}

// applies is `worker setup --apply`, which must find something to do, and `worker setup --plan`, which must not.
func applies(ctx context.Context, s *site, u user) error {
	opened, err := app.OpenSetup(ctx, s.config(u))
	if err != nil {
		return err
	}
	defer opened.Close(ctx)
	plan, err := opened.Plan(ctx)
	if err != nil {
		return err
	}
	if plan.Done() {
		return errors.New("there is nothing to do")
	}
	if err := opened.Apply(ctx, plan, func(string) {}); err != nil {
		return err
	}
	if plan, err = opened.Plan(ctx); err == nil && !plan.Done() {
		err = errors.New("there is something left to do")
	}
	return err
}

// analyses reads two results through the consumer and acks them.
func analyses(ctx context.Context, s *site, u user, _ *around) error {
	return s.as(ctx, u, readsTwo)
}

// readsTwo reads two results as analytics does.
func readsTwo(ctx context.Context, connected *app.Broker) error {
	js, err := jetstream.NewWithAPIPrefix(connected.Conn, "discount.api")
	if err != nil {
		return err
	}
	consumer, err := js.Consumer(ctx, "DISCOUNT_RESULTS", "analytics")
	if err != nil {
		return err
	}
	for range 2 {
		message, err := consumer.Next(jetstream.FetchContext(ctx))
		if err != nil {
			return err
		}
		if err := message.DoubleAck(ctx); err != nil {
			return err
		}
	}
	return nil
}

// stored is one message of a stream.
type stored struct {
	subject string
	data    []byte
}

// deaths are the results and the dead letters that a worker has written for three queries that no worker can answer.
var deaths = sync.OnceValues(func() (all []stored, err error) {
	ctx := context.Background()
	c := ordinary()
	c.NATS.URL, c.DataDir, c.Embedded.Listen, c.Embedded.SyncAlways = "", filepath.Join(ground.dir, "deaths"), "127.0.0.1:0", false
	stop, url, err := run(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	c.NATS.URL = config.URL(url)
	connected, err := app.OpenBroker(ctx, c, app.BrokerOptions{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = connected.Close(ctx) }()
	for i := range 3 {
		if _, err := publisher(connected, "shop").Ask(ctx, malformed("death "+strconv.Itoa(i))); err != nil {
			return nil, err
		}
		if err := until(ctx, func() (bool, error) {
			dead, err := connected.JS.Stream(ctx, "DISCOUNT_DEAD")
			return err == nil && dead.CachedInfo().State.Msgs == uint64(i+1), err
		}); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"DISCOUNT_RESULTS", "DISCOUNT_DEAD"} {
		stream, err := connected.JS.Stream(ctx, name)
		if err != nil {
			return nil, err
		}
		for sequence := range uint64(3) {
			message, err := stream.GetMsg(ctx, sequence+1)
			if err != nil {
				return nil, err
			}
			all = append(all, stored{message.Subject, message.Data})
		}
	}
	return all, nil
})

// laysDead stores three dead letters and their results.
func laysDead(t *testing.T, _ *site, root *app.Broker) {
	t.Helper()
	setUp(t, root, asIs)
	all, err := deaths()
	require.NoError(t, err)
	for _, message := range all {
		_, err := root.JS.Publish(t.Context(), message.subject, message.data)
		require.NoError(t, err)
	}
}

// laysDeadAndWorks has a worker run beside the dead letters.
func laysDeadAndWorks(t *testing.T, s *site, root *app.Broker) {
	t.Helper()
	laysDead(t, s, root)
	laysWorker(t, s, root)
}

// looks is everything that operators look at.
func looks(ctx context.Context, s *site, u user, _ *around) error {
	letters, err := app.OpenDeadLetters(ctx, s.config(u), app.DeadLettersOptions{Actor: "ops"})
	if err != nil {
		return err
	}
	defer letters.Close(ctx)
	if _, err := letters.Groups(ctx, deadletter.Filter{}); err != nil {
		return err
	}
	letter, err := letters.Find(ctx, 1)
	if err != nil {
		return err
	}
	if _, err := letters.Show(ctx, letter); err != nil {
		return err
	}
	plan, err := letters.PlanReplay(ctx, deadletter.Filter{})
	if err == nil && plan.Ready != 3 {
		err = fmt.Errorf("%d of 3 dead letters could be replayed", plan.Ready)
	}
	if err != nil {
		return err
	}
	if err := letters.Batches(ctx, func(deadletter.Batch) error { return nil }); err != nil {
		return err
	}
	pace, err := app.OpenPace(ctx, s.config(u))
	if err != nil {
		return err
	}
	defer pace.Close(ctx)
	if _, err := pace.Show(ctx); err != nil {
		return err
	}
	if err := follows(ctx, s, u); err != nil {
		return err
	}
	return s.as(ctx, u, func(ctx context.Context, connected *app.Broker) error {
		_, err := publisher(connected, "ops").Result(ctx, letter.Query.Key)
		return err
	})
}

// follows is `worker tail` and `worker top`.
func follows(ctx context.Context, s *site, u user) error {
	tailing, err := app.OpenTail(ctx, s.config(u))
	if err != nil {
		return err
	}
	defer tailing.Close(ctx)
	seen := 0
	if err := tailing.Read(ctx, tail.Request{Last: tail.All}, func(tail.Event) error { seen++; return nil }); err != nil {
		return err
	}
	if seen != 6 {
		return fmt.Errorf("%d of 6 events were seen", seen)
	}
	topping, err := app.OpenTop(ctx, s.config(u))
	if err != nil {
		return err
	}
	defer topping.Close(ctx)
	if problems := topping.Snapshot(ctx).Problems; len(problems) > 0 {
		return errors.New(strings.Join(problems, "; "))
	}
	return nil
}

// acts replays and drops dead letters and changes the pace.
func acts(ctx context.Context, s *site, u user, _ *around) error {
	letters, err := app.OpenDeadLetters(ctx, s.config(u), app.DeadLettersOptions{Actor: "ops", Why: "mended"})
	if err != nil {
		return err
	}
	defer letters.Close(ctx)
	for sequence := range uint64(2) { // The second replay tidies up after the first, whose letter is gone by then.
		if err := replays(ctx, letters, deadletter.Filter{Sequence: sequence + 1}); err != nil {
			return err
		}
		plan, err := letters.PlanDrop(ctx, deadletter.Filter{Sequence: sequence + 1})
		if err != nil {
			return err
		}
		if dropped, err := letters.Drop(ctx, plan); err != nil || dropped != 1 {
			return fmt.Errorf("%d letters were dropped: %w", dropped, err)
		}
	}
	pace, err := app.OpenPace(ctx, s.config(u))
	if err != nil {
		return err
	}
	defer pace.Close(ctx)
	account, err := pace.Account("easypay")
	if err != nil {
		return err
	}
	author := app.PaceAuthor{By: "ops", Why: "test"}
	if err := pace.Pause(ctx, account, author); err != nil {
		return err
	}
	return pace.Reset(ctx, account, author)
}

func replays(ctx context.Context, letters *app.DeadLetters, filter deadletter.Filter) error {
	plan, err := letters.PlanReplay(ctx, filter)
	if err != nil {
		return err
	}
	batch, err := letters.Start(ctx, deadletter.Request{Plan: plan, Rate: 100})
	if err != nil {
		return err
	}
	if batch, err = letters.Run(ctx, batch.ID, nil); err == nil && batch.Published != 1 {
		err = fmt.Errorf("%d letters were published", batch.Published)
	}
	return err
}

// administers does what only an admin may, and sees that the broker tells of it: deletion, backup and restoring.
func administers(ctx context.Context, s *site, u user, _ *around) error {
	return s.as(ctx, u, func(ctx context.Context, connected *app.Broker) error {
		told, err := connected.Conn.SubscribeSync("$JS.EVENT.ADVISORY.CONSUMER.DELETED.>")
		if err != nil {
			return err
		}
		defer func() { _ = told.Unsubscribe() }()
		if err := connected.JS.DeleteConsumer(ctx, "DISCOUNT_RESULTS", "analytics"); err != nil {
			return err
		}
		if _, err := told.NextMsgWithContext(ctx); err != nil {
			return err
		}
		if err := makeAnalytics(ctx, connected); err != nil {
			return err
		}
		return survives(ctx, connected)
	})
}
