package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/query"
)

// answer is what the stub says to every inquiry: two offers, as in the API page's example, in the spelling of its table.
const answer = `{"resCd":"0000","resMsg":"Success","couponList":[` +
	`{"couponJoinCd":"008","couponJoinNm":"Hana","couponGid":"CP12345678","calcAuthLimitRate":12.03,"standardAmount":50000,"discountType":"02","couponAmount":1000},` +
	`{"couponJoinCd":"026","couponJoinNm":"BC","couponGid":"CP87654321","calcAuthLimitRate":60.55,"standardAmount":20000,"discountType":"01","couponRate":5,"maxDiscountAmount":10000,"couponAmount":2550}]}`

// measure fills a fresh broker and lets one rival drain it in a process of its own.
func measure(ctx context.Context, rival string, p plan) (figures, error) {
	dir, err := os.MkdirTemp("", "discount-bench-")
	if err != nil {
		return figures{}, err
	}
	defer os.RemoveAll(dir)
	c := config.Default()
	c.DataDir, c.Embedded.Listen, c.Embedded.SyncAlways = dir, "127.0.0.1:0", false
	server, err := app.OpenBroker(ctx, c, app.BrokerOptions{Serve: true})
	if err != nil {
		return figures{}, err
	}
	defer server.Close(context.WithoutCancel(ctx))
	if err := server.Prepare(ctx, app.Topology(c)); err != nil {
		return figures{}, err
	}
	stub := httptest.NewServer(stubHandler(p.latency))
	defer stub.Close()
	if err := fill(ctx, server, p.queries); err != nil {
		return figures{}, err
	}
	return drain(ctx, rival, p, server, stub.URL)
}

func stubHandler(latency time.Duration) http.Handler {
	body := []byte(answer)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		time.Sleep(latency)
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = w.Write(body)
	})
}

// fill publishes the queries that will be drained.
func fill(ctx context.Context, server *app.Broker, queries int) error {
	js, err := jetstream.New(server.Conn, jetstream.WithPublishAsyncMaxPending(1000))
	if err != nil {
		return err
	}
	subject := query.NewSubjects(broker.DefaultPrefix).Query(query.EasyPay, query.Interactive, "bench")
	for i := range queries {
		message := nats.NewMsg(subject)
		message.Header.Set("Content-Type", query.ContentTypeEvent)
		message.Data = fmt.Appendf(nil, `{"specversion":"1.0","id":"order-%d","source":"urn:bench","type":"discount.query.requested.v1",`+
			`"time":"2026-01-02T03:04:05Z","datacontenttype":"application/json","correlationid":"order-%d",`+
			`"data":{"mallId":"T5102001","cardBin":"12345678","amount":51004}}`, i, i)
		if _, err := js.PublishMsgAsync(message, jetstream.WithStallWait(time.Minute)); err != nil {
			return err
		}
	}
	select {
	case <-js.PublishAsyncComplete():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// drain starts the rival and reads its figures.
func drain(ctx context.Context, rival string, p plan, server *app.Broker, stub string) (figures, error) {
	self, err := os.Executable()
	if err != nil {
		return figures{}, err
	}
	command := exec.CommandContext(ctx, self, "-rival", rival, "-nats", server.ClientURL(), "-stub", stub,
		"-queries", strconv.Itoa(p.queries), "-concurrency", strconv.Itoa(p.concurrency))
	if rival == rivalWorker && p.profile != "" {
		command.Args = append(command.Args, "-cpuprofile", p.profile)
	}
	command.Env = append(os.Environ(), "GOMAXPROCS=1")
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		return figures{}, err
	}
	if err := startPinned(command); err != nil {
		return figures{}, err
	}
	line, readErr := bufio.NewReader(out).ReadBytes('\n')
	waitErr := command.Wait()
	if readErr != nil || waitErr != nil {
		return figures{}, errors.Join(errLost, readErr, waitErr)
	}
	var measured figures
	return measured, json.Unmarshal(line, &measured)
}
