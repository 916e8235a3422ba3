//go:build faults

package faults

import (
	"fmt"
	"os/exec"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
)

// deployment is what keeps so many workers running, as a Deployment of Kubernetes does with maxSurge 1 and maxUnavailable 0.
type deployment struct {
	*paced

	// leaving are the workers that were told to stop.
	leaving []*worker
	// strange counts the queries of a version that nobody knows.
	strange int
}

// TestRollout rolls workers from one build to the next and back, under more load than the pace lets through. On the way it changes
// their credentials, kills one, and mixes in queries of a version that only later builds will know. Then it scales to one worker and back.
func TestRollout(t *testing.T) {
	t.Parallel()
	const rate, burst = 100, 10
	replicas := times(2, 4)
	first := workerBinary(t)
	second, err := builtNext()
	require.NoError(t, err)
	require.NotEqual(t, versionOf(t, first), versionOf(t, second))
	kind := withNKey(t)
	current := kind.issue(t)
	mounted := newSecret(t, current.files)
	o := kind.options(t, mounted, current)
	o.settings = patient(fmt.Sprintf("lanes: {interactive: {slots: %d, horizon: 1h}, bulk: {slots: %d, horizon: 1h}}", slotsEach, slotsEach))
	s := newSite(t, o)
	s.slowPace(t, fmt.Sprintf("%d/s", rate), burst)
	d := &deployment{paced: &paced{site: s, rate: rate, burst: burst, load: newLoad(s), draw: chance(t)}}
	feeding := d.feed(t, d.load, 2*rate)
	d.replicas(t, first, replicas)
	d.warmUp(t)
	used := d.use()
	next := kind.issue(t)
	s.brokers[0].reload(t, kind.broker(t, current, next))
	mounted.swap(t, next.files)
	d.roll(t, second, func(replaced int) {
		d.askStrangely(t)
		if replaced == 1 {
			d.lose(t) // Early, so that what it held has come back when the rest is done.
		}
	})
	d.roll(t, first, func(int) { d.askStrangely(t) })
	d.settle(t)
	s.brokers[0].reload(t, kind.broker(t, next)) // Nobody is left who logs in with the old key.
	d.replicas(t, first, 1)
	d.replicas(t, first, replicas)
	part := used()
	feeding.stop()
	found := d.finish(t, d.load, soon, 20)
	d.requirePace(t, d.killed*slotsEach)
	require.Equal(t, map[string]int{"malformed": d.strange}, found.Reasons, "what nobody knows is set aside, and nothing else")
	require.Equal(t, d.strange, found.Dead)
	require.Equal(t, found.Queries-d.strange, found.Completed)
	others := found
	others.Redelivered = max(0, found.Redelivered-d.killed*slotsEach) // What those who were killed may have held.
	d.requireNoneAgain(t, others)
	t.Logf("rollout: %d replicas, %d workers started, %d stopped, %d killed; %d queries, %d of an unknown version; %d delivered again; %.1f %% of the rate used",
		replicas, d.started, d.stopped, d.killed, found.Queries, d.strange, found.Redelivered, 100*part)
}

// start starts a worker of a build and waits until it is ready.
func (d *deployment) start(t *testing.T, build string) *worker {
	t.Helper()
	w := d.launchAs(t, exec.Command(build, "run", "-c", d.config))
	w.awaitReady(t)
	return w
}

// stop tells a worker to stop, and does not wait until it has.
func (d *deployment) stop(t *testing.T, w *worker) {
	t.Helper()
	w.signal(t, syscall.SIGTERM)
	d.stopped++
	d.leaving = append(d.leaving, w)
}

// settle waits until all have left who were told to, in order.
func (d *deployment) settle(t *testing.T) {
	t.Helper()
	for _, w := range d.leaving {
		require.Zero(t, w.wait(t, soon).ExitStatus(), "%s was told to stop: %s", w.name, w.cmd.ProcessState)
	}
	d.leaving = nil
}

// replicas starts or stops workers until there are n. Those that start are of a build.
func (d *deployment) replicas(t *testing.T, build string, n int) {
	t.Helper()
	for len(d.workers) < n {
		d.workers = append(d.workers, d.launchAs(t, exec.Command(build, "run", "-c", d.config)))
	}
	for _, w := range d.workers {
		w.awaitReady(t)
	}
	for len(d.workers) > n {
		d.stop(t, d.workers[0])
		d.workers = d.workers[1:]
	}
	d.settle(t)
}

// roll replaces the workers one by one: the new one is ready before the old one is told to stop. It tells how many it has replaced.
func (d *deployment) roll(t *testing.T, build string, replaced func(n int)) {
	t.Helper()
	for i, old := range d.workers {
		d.workers[i] = d.start(t, build)
		d.stop(t, old)
		replaced(i + 1)
	}
}

// lose kills the worker that would be replaced last, as the system does with one that takes too much memory. It is started again where it was.
func (d *deployment) lose(t *testing.T) {
	t.Helper()
	last := len(d.workers) - 1
	victim := d.workers[last]
	await(t, "the worker holds queries", func() bool {
		return victim.figure(t, `discount_worker_slots_held{consumer="`+queriesStream+`/easypay-interactive"}`) > 0
	})
	victim.kill()
	d.killed++
	d.workers[last] = d.start(t, victim.cmd.Path)
}

// askStrangely publishes queries of a version that no worker knows yet, one of them with data that none knows either.
func (d *deployment) askStrangely(t *testing.T) {
	t.Helper()
	for _, data := range []string{`{"cardBin":"12345678","amount":1000}`, `{"cards":[{"bin":"12345678"}],"total":{"minor":1000,"currency":"KRW"}}`} {
		amount := int64(700_000_000 + d.strange)
		id := fmt.Sprintf("order-%d", amount)
		message := nats.NewMsg(query.NewSubjects("discount").Query(query.EasyPay, query.Interactive, shop))
		message.Header.Set("Content-Type", query.ContentTypeEvent)
		message.Data = fmt.Appendf(nil, `{"specversion":"1.0","id":"%s","source":"%s","type":"discount.query.requested.v2","data":%s}`, id, source, data)
		_, err := d.js.PublishMsg(t.Context(), message)
		require.NoError(t, err)
		d.load.note(query.Key(shop, source, id), amount, 0)
		d.strange++
	}
}
