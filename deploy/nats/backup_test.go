package deploy

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats.go"

	"discountquery.example/worker/internal/app"
)

// copied is a stream as `nats stream backup` takes it.
type copied struct {
	Config jsontext.Value `json:"config"`
	State  jsontext.Value `json:"state"`

	chunks [][]byte
}

// exchange asks JetStream's API for something and reads the answer into v. What the API refuses is an error.
func exchange(ctx context.Context, by *app.Broker, subject string, request, v any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	reply, err := by.Conn.RequestWithContext(ctx, subject, body)
	if err != nil {
		return err
	}
	if strings.Contains(string(reply.Data), `"error"`) {
		return errors.New(string(reply.Data))
	}
	return json.Unmarshal(reply.Data, v)
}

// backsUp takes a copy of a stream and acks every piece of it.
func backsUp(ctx context.Context, by *app.Broker, stream string) (c copied, err error) {
	inbox := by.Conn.NewInbox()
	pieces, err := by.Conn.SubscribeSync(inbox)
	if err != nil {
		return c, err
	}
	defer func() { _ = pieces.Unsubscribe() }()
	request := map[string]any{"deliver_subject": inbox, "chunk_size": 1024}
	if err := exchange(ctx, by, "$JS.API.STREAM.SNAPSHOT."+stream, request, &c); err != nil {
		return c, err
	}
	for {
		piece, err := pieces.NextMsgWithContext(ctx)
		if err != nil {
			return c, err
		}
		if len(piece.Data) == 0 { // The end, or what went wrong.
			if status := piece.Header.Get("Status"); status != "" && status != "204" {
				err = fmt.Errorf("back up %s: status %s", stream, status)
			}
			return c, err
		}
		c.chunks = append(c.chunks, piece.Data)
		if piece.Reply == "" {
			continue // Nobody waits for an ack of the last one.
		}
		if err := piece.Respond(nil); err != nil {
			return c, err
		}
	}
}

// restores makes a stream from its copy and says how many messages it has.
func restores(ctx context.Context, by *app.Broker, stream string, c copied) (messages uint64, err error) {
	var begun struct {
		DeliverSubject string `json:"deliver_subject"`
	}
	if err := exchange(ctx, by, "$JS.API.STREAM.RESTORE."+stream, c, &begun); err != nil {
		return 0, err
	}
	var reply *nats.Msg
	for _, chunk := range append(c.chunks, nil) { // An empty piece is the end.
		if reply, err = by.Conn.RequestWithContext(ctx, begun.DeliverSubject, chunk); err != nil {
			return 0, err
		}
		if strings.Contains(string(reply.Data), `"error"`) {
			return 0, errors.New(string(reply.Data))
		}
	}
	restored, err := by.JS.Stream(ctx, stream)
	if err != nil {
		return 0, err
	}
	return restored.CachedInfo().State.Msgs, nil
}

// survives takes a copy of the results, deletes them, and brings them back.
func survives(ctx context.Context, by *app.Broker) error {
	c, err := backsUp(ctx, by, "DISCOUNT_RESULTS")
	if err != nil {
		return err
	}
	if err := by.JS.DeleteStream(ctx, "DISCOUNT_RESULTS"); err != nil {
		return err
	}
	if messages, err := restores(ctx, by, "DISCOUNT_RESULTS", c); err != nil || messages != 2 {
		return fmt.Errorf("%d of 2 results were restored: %w", messages, err)
	}
	_, err = by.JS.Consumer(ctx, "DISCOUNT_RESULTS", "analytics")
	return err
}
